"""What a decision record says of the watch for breaks of demand."""

from msgspec import Struct


class DriftView(Struct, frozen=True, kw_only=True, gc=False):
    """Evidence that demand broke, nats by kind; above ``alarm_nats`` a break is accepted.

    What the product sold against what was expected of it, summed over epochs:
    `models.demand.drift`.
    """

    level_up: float
    level_down: float
    less_elastic: float
    more_elastic: float
    alarm_nats: float
