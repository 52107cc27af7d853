"""The effective prices as shops see them, for quotes: ``prices-latest``, followed."""

from typing import Any

from models.quotes.standing import InForce
from schemas.topics import PRICES_LATEST
from streams.edge.follower import Record, TopicFollower
from streams.edge.price import prices_of
from streams.kafka.kafka_settings import topic_name
from streams.quotes.refusals import require_following

NAME = "quotes-prices"


class PricesInForce:
    """The last effective price of each SKU. Call it with a SKU."""

    def __init__(self, settings: Any, isolation: str = "read_committed") -> None:
        self._topic = topic_name(settings, PRICES_LATEST.name)
        self._prices: dict[str, InForce] = {}
        self._follower = TopicFollower(
            settings, PRICES_LATEST, NAME, self.take, isolation=isolation
        )

    def __call__(self, sku: str) -> InForce | None:
        return self._prices.get(sku)

    def check(self) -> None:
        """That the prices are known, and move.

        Raises
        ------
        ServiceError : they are still being read, or following them ended
        """
        require_following(self._follower, "the prices in force")

    def start(self) -> "PricesInForce":
        """Begin to follow."""
        self._follower.start()
        return self

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def take(self, records: list[Record]) -> None:
        """Take prices; only a version above the last known one counts."""
        for _, price in prices_of(records, self._topic):
            if price is None:
                continue
            known = self._prices.get(price.sku)
            if known is None or price.version > known.version:
                self._prices[price.sku] = InForce(
                    price.price_minor, price.price_id, price.version, price.currency,
                    price.valid_until,
                )  # fmt: skip
