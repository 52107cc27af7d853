"""What a decision tells of the coin behind its price."""

from msgspec import Struct


class Exploration(Struct, frozen=True, kw_only=True, gc=False):
    """The coin behind a probe, so that it can be evaluated as an experiment later.

    ``up_minor`` and ``down_minor`` are what its sides led to after guards, rounding and the
    smallest step, before breaker and gate; equal where these left no choice. ``up_probability`` is
    a half, or 1 where the lower price would have cost too much.
    """

    up_minor: int
    down_minor: int
    up_probability: float
    drew_up: bool
