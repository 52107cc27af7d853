"""What a decision says of the prior prices that announced reductions must name."""

from msgspec import Struct


class PriorPriceView(Struct, frozen=True, kw_only=True, gc=False):
    """The prior price that an announced reduction must name in a market, and what it allows.

    ``highest_minor`` is the dearest price that keeps the announced ``depth``; the reduction is
    announced from ``from_time`` until before ``to_time`` under the name ``promotion``.
    """

    market: str
    prior_minor: int
    depth: float
    highest_minor: int
    from_time: str
    to_time: str
    promotion: str
