"""The parts that `pricemaker gateway` and the demo have."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from streams.gateway.desk import Desk
from streams.gateway.desk_files import DeskFiles
from streams.gateway.lag import Lag
from streams.gateway.parts import Part
from streams.gateway.prices import Prices
from streams.gateway.reckoner import Reckoner
from streams.gateway.switch import Switch
from streams.quotes.part import Quotes
from streams.webhooks.part import WebhooksPart


def standard_parts(
    settings: Any,
    *,
    kernel: Callable[[], Any] | None = None,
    embedded: bool = False,
    registry: CollectorRegistry | None = None,
) -> list[Part]:
    """All parts, in the order in which they start.

    Parameters
    ----------
    kernel : makes the compiled kernels, or gives those of the process
    embedded : the broker is an `EmbeddedBroker`
    registry : of the process's metrics
    """

    def warm() -> Any:
        from streams.worker.engines import warm_kernel  # JAX takes seconds to import

        return warm_kernel(settings.engine.compilation_cache_dir)

    switch = Switch(settings, embedded=embedded)
    prices = Prices(settings, switch, embedded=embedded)
    reckoner = Reckoner(kernel or warm)
    desk = Desk(settings, prices, reckoner, embedded=embedded)
    webhooks = [WebhooksPart(settings, switch, registry)] if settings.webhooks.endpoints else []
    quotes = Quotes(settings, switch, reckoner, registry=registry, embedded=embedded)
    return [
        switch,
        prices,
        reckoner,
        desk,
        quotes,
        Lag(settings, desk, embedded=embedded),
        DeskFiles(),
        *webhooks,
    ]
