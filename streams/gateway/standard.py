"""The parts that `pricemaker gateway` and the demo have."""

from typing import Any

from streams.gateway.parts import Part
from streams.gateway.prices import Prices


def standard_parts(settings: Any, *, embedded: bool = False) -> list[Part]:
    """All parts, in the order in which they start.

    Parameters
    ----------
    embedded : the broker is an `EmbeddedBroker`
    """
    return [Prices(settings, embedded=embedded)]
