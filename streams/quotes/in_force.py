"""The effective prices as shops see them, for quotes: ``prices-latest``, followed."""

from typing import Any

from models.quotes.standing import InForce
from schemas.topics import PRICES_LATEST
from streams.edge.follower import Record, TopicFollower
from streams.edge.price import read_price
from streams.quotes.refusals import not_ready

NAME = "quotes-prices"


class PricesInForce:
    """The last effective price of each SKU. Call it with a SKU."""

    def __init__(self, settings: Any, isolation: str = "read_committed") -> None:
        self._error: BaseException | None = None
        self._prices: dict[str, InForce] = {}
        self._follower = TopicFollower(
            settings, PRICES_LATEST, NAME, self.take, self._failed, isolation=isolation
        )

    def __call__(self, sku: str) -> InForce | None:
        return self._prices.get(sku)

    def check(self) -> None:
        """That the prices are known, and move.

        Raises
        ------
        ServiceError : they are still being read, or following them ended
        """
        if self._error is not None:
            reason = getattr(self._error, "message", repr(self._error))
            raise not_ready(f"following the prices ended: {reason}")
        if not self._follower.caught_up.is_set():
            raise not_ready("the prices in force are still being read")

    def start(self) -> "PricesInForce":
        """Begin to follow."""
        self._follower.start()
        return self

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def take(self, records: list[Record]) -> None:
        """Take prices; only a version above the last known one counts."""
        for record in records:
            if record.value is None:
                continue
            price = read_price(record.value, f"{PRICES_LATEST.name}[{record.partition}]")
            known = self._prices.get(price.sku)
            if known is None or price.version > known.version:
                self._prices[price.sku] = InForce(
                    price.price_minor, price.price_id, price.version, price.currency,
                    price.valid_until,
                )  # fmt: skip

    def _failed(self, error: BaseException) -> None:
        self._error = error
