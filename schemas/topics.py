"""The topic table: every Kafka topic, its partitions, key, retention and clean-up policy."""

from msgspec import Struct

from schemas.events import DAY_MS

PARTITIONS_DEFAULT = 4
EVENT_BYTES_MAX = 512 * 1024  # an accepted event; a larger one becomes a dead letter
RECORD_BYTES_MAX = 4 * 1024 * 1024  # what a topic takes, so that an oversized event can be kept
DEAD_LETTER_BYTES_MAX = 8 * 1024 * 1024


class Topic(Struct, frozen=True, kw_only=True):
    """One topic. ``partitions`` is None where the number is the tape's (a setting)."""

    name: str
    about: str
    key: str
    partitions: int | None = None
    cleanup_policy: str = "delete"
    retention_ms: int = 7 * DAY_MS
    max_message_bytes: int = RECORD_BYTES_MAX

    def config(self) -> dict[str, str]:
        """The topic's settings as Kafka names them."""
        return {
            "cleanup.policy": self.cleanup_policy,
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
        }


FOREVER_MS = -1

ORDERS = Topic(name="orders", about="orders placed and cancelled", key="SKU")
RETURNS = Topic(name="returns", about="orders returned", key="SKU")
COMPETITOR_PRICES = Topic(name="competitor-prices", about="rivals' prices", key="SKU")
INVENTORY = Topic(name="inventory", about="stock changes", key="SKU")
TRAFFIC = Topic(name="traffic", about="visits, searches, impressions", key="SKU")
PRODUCTS = Topic(
    name="products", about="catalogue, costs, applied prices", key="SKU", retention_ms=FOREVER_MS
)
CONTROLS = Topic(
    name="controls",
    about="policies, priors, calendars, promotions, commands, ticks",
    key="none",
    partitions=1,
    retention_ms=FOREVER_MS,
)
TAPE = Topic(
    name="tape",
    about="one order of events per partition: the truth",
    key="SKU, none for controls",
    retention_ms=FOREVER_MS,
)
ROUTES = Topic(
    name="routes",
    about="SKU to family and tape partition",
    key="SKU",
    cleanup_policy="compact",
    retention_ms=FOREVER_MS,
)
STATE = Topic(
    name="state",
    about="the pricer's state records and its manifest",
    key="record name",
    cleanup_policy="compact",
    retention_ms=FOREVER_MS,
    max_message_bytes=DEAD_LETTER_BYTES_MAX,
)
PRICES = Topic(name="prices", about="every price decision", key="SKU", retention_ms=FOREVER_MS)
PRICES_LATEST = Topic(
    name="prices-latest",
    about="the effective price of each SKU",
    key="SKU",
    cleanup_policy="compact",
    retention_ms=FOREVER_MS,
)
ALERTS = Topic(
    name="alerts", about="breaker, blocked products", key="SKU", retention_ms=30 * DAY_MS
)
DISCOUNTS = Topic(
    name="discounts",
    about="personal discounts by segment, beside the one list price",
    key="SKU",
    retention_ms=FOREVER_MS,
)
DEAD_LETTER = Topic(
    name="dead-letter",
    about="input that could not be accepted, whole, with the reason",
    key="the original's",
    retention_ms=FOREVER_MS,
    max_message_bytes=DEAD_LETTER_BYTES_MAX,
)

SOURCES = (ORDERS, RETURNS, COMPETITOR_PRICES, INVENTORY, TRAFFIC, PRODUCTS, CONTROLS)
TOPICS = (*SOURCES, TAPE, ROUTES, STATE, PRICES, PRICES_LATEST, DISCOUNTS, ALERTS, DEAD_LETTER)
