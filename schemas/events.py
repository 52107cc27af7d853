"""The events that other systems write, one frozen struct a type, checked while they are decoded.

Common fields: ``type`` (the tag), ``event_id`` (unique per source), ``event_time`` (RFC 3339,
with a UTC offset, read to the millisecond), ``sku``, and ``currency`` where money is. Money is
an integer number of minor units. Unknown fields are ignored, wrong ones refused.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.learned import (
    COEFFICIENT_MAX,
    VARIANCE_MAX,
    Coefficients,
    Covariance,
    is_positive_definite,
)
from schemas.money import AmountMinor, CurrencyCode, PriceMinor, is_currency

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

Identifier = Annotated[str, Meta(min_length=1, max_length=128)]
PriceId = Annotated[str, Meta(min_length=1, max_length=192)]  # partition, offset and SKU
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Segment = Annotated[str, Meta(pattern="^[^/]{1,64}$", description="a name without a slash")]
Text = Annotated[str, Meta(max_length=2000)]
EventTime = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a UTC offset")]
Quantity = Annotated[int, Meta(ge=1, le=10_000_000, description="units")]
Count = Annotated[int, Meta(ge=0, le=10**12)]
Units = Annotated[int, Meta(ge=0, le=10**9, description="units")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Rate = Annotated[float, Meta(ge=0.0, lt=1.0)]
Market = Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1 alpha-2 code")]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


def time_ms(moment: datetime) -> int:
    """Milliseconds since 1970-01-01T00:00Z, exactly (finer digits are cut)."""
    return (moment - EPOCH) // MILLISECOND


@lru_cache(maxsize=1024)
def rfc3339(at_ms: int) -> str:
    """``rfc3339(0)`` is ``"1970-01-01T00:00:00.000Z"``."""
    moment = EPOCH + timedelta(milliseconds=at_ms)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


class Event(Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """What every event has."""

    event_id: Identifier
    event_time: EventTime

    @property
    def event_time_ms(self) -> int:
        """Event time, milliseconds since the Unix epoch."""
        return time_ms(self.event_time)


class SkuEvent(Event, frozen=True, kw_only=True, gc=False):
    """An event about one product."""

    sku: Identifier


class MoneyEvent(SkuEvent, frozen=True, kw_only=True, gc=False):
    """An event about one product that carries money."""

    currency: CurrencyCode

    def __post_init__(self) -> None:
        if not is_currency(self.currency):
            raise ValueError(f"Unknown currency {self.currency!r} - at `$.currency`")


class OrderPlaced(MoneyEvent, frozen=True, kw_only=True, tag="order_placed", gc=False):
    """One order line: ``quantity`` units at ``unit_price_minor`` as shown to the buyer."""

    order_id: Identifier
    line_id: Identifier
    quantity: Quantity
    unit_price_minor: PriceMinor
    segment: Segment = "all"
    channel: Name = "web"


class OrderCancelled(SkuEvent, frozen=True, kw_only=True, tag="order_cancelled", gc=False):
    """An order line, or a part of it, taken back before it was delivered."""

    order_id: Identifier
    line_id: Identifier
    quantity: Quantity
    segment: Segment = "all"
    channel: Name = "web"


class OrderReturned(MoneyEvent, frozen=True, kw_only=True, tag="order_returned", gc=False):
    """Units of a delivered order line sent back."""

    order_id: Identifier
    line_id: Identifier
    quantity: Quantity
    refund_minor: AmountMinor
    return_cost_minor: AmountMinor | None = None
    reason: Name | None = None


class CompetitorPriceObserved(
    MoneyEvent, frozen=True, kw_only=True, tag="competitor_price_observed", gc=False
):
    """A rival's price for the same product; null with ``listed: false`` when it is gone."""

    competitor: Name
    price_minor: PriceMinor | None
    listed: bool = True
    in_stock: bool = True
    promotion: bool = False
    match_confidence: Share = 1.0

    def __post_init__(self) -> None:
        MoneyEvent.__post_init__(self)
        if self.listed and self.price_minor is None:
            raise ValueError("Expected `int` for a listed product, got `null` - at `$.price_minor`")


class InventoryChanged(SkuEvent, frozen=True, kw_only=True, tag="inventory_changed", gc=False):
    """Stock after the change."""

    on_hand: Units
    inbound: Units = 0
    inbound_eta: EventTime | None = None
    reason: Name | None = None


class TrafficCounted(SkuEvent, frozen=True, kw_only=True, tag="traffic_counted", gc=False):
    """Visits to a product's page between two times, counted by the source."""

    from_time: EventTime
    to_time: EventTime
    visits: Count
    impressions: Count | None = None
    searches: Count | None = None

    def __post_init__(self) -> None:
        if self.to_time <= self.from_time:
            raise ValueError("Expected a time after `from_time` - at `$.to_time`")


class HandedOver(Struct, frozen=True, kw_only=True):
    """What was learned of a product that goes on under a new SKU, in another family.

    Families may lie on different tape partitions, so the belief travels with the listing. ``mean``
    and ``cov`` are those of `schemas.learned.DemandPosterior`, at the given reference price.
    """

    sku: Identifier
    reference_price_minor: PriceMinor
    mean: Coefficients
    cov: Covariance
    orders: Count
    epochs: Count
    size_lines: Annotated[float, Meta(ge=0.0, le=1e12, description="order lines")]
    size_units: Annotated[float, Meta(ge=0.0, le=1e12, description="units")]

    def __post_init__(self) -> None:
        if not all(-COEFFICIENT_MAX <= value <= COEFFICIENT_MAX for value in self.mean):
            raise ValueError("Expected coefficients from -50 to 50 - at `$.handed_over.mean`")
        if not is_positive_definite(self.cov):
            raise ValueError("Expected a positive definite matrix - at `$.handed_over.cov`")
        if max(self.cov[0], self.cov[4], self.cov[7], self.cov[9]) > VARIANCE_MAX:
            raise ValueError("Expected variances up to 2500 - at `$.handed_over.cov`")


class ProductListed(MoneyEvent, frozen=True, kw_only=True, tag="product_listed", gc=False):
    """A product enters the catalogue, or its entry is corrected.

    ``family`` is fixed by the first listing; without one a product is its own family. A missing
    cost is unknown, not zero: the product is not priced until it is known. ``handed_over`` counts
    at the first listing only; a ``predecessor`` is then not needed.
    """

    category: Name
    attributes: dict[Name, float | str] = {}
    family: Identifier | None = None
    predecessor: Identifier | None = None
    succession: Literal["replaces", "demotes"] = "replaces"
    anchors: tuple[Identifier, ...] = ()
    unit_cost_minor: PriceMinor | None = None
    return_handling_cost_minor: AmountMinor | None = None
    list_price_minor: PriceMinor | None = None
    minimum_resale_price_minor: dict[Market, PriceMinor] = {}
    vat_rate: Rate = 0.0
    fee_rate: Rate = 0.0
    role: Literal["anchor", "addition", "key_value_item", "plain"] = "plain"
    season: Name | None = None
    exit_date: EventTime | None = None
    assumptions: dict[Name, str] = {}
    handed_over: HandedOver | UnsetType = UNSET


class CostChanged(MoneyEvent, frozen=True, kw_only=True, tag="cost_changed", gc=False):
    """A new unit cost; null when it is no longer known."""

    unit_cost_minor: PriceMinor | None
    return_handling_cost_minor: AmountMinor | None = None


class ProductRetired(SkuEvent, frozen=True, kw_only=True, tag="product_retired", gc=False):
    """A product leaves the catalogue; its state and its versions stay."""

    reason: Name | None = None


class PriceApplied(MoneyEvent, frozen=True, kw_only=True, tag="price_applied", gc=False):
    """What the shop shows from ``event_time`` on, and which of our decisions it follows."""

    price_minor: PriceMinor
    price_id: PriceId | None = None


class PolicyPublished(Event, frozen=True, kw_only=True, tag="policy_published", gc=False):
    """A policy document (TOML) and the SHA-256 of its text."""

    policy: Annotated[str, Meta(max_length=256_000)]
    policy_sha256: Sha256


class PriorPublished(Event, frozen=True, kw_only=True, tag="prior_published", gc=False):
    """A demand prior and its content hash."""

    prior: dict[str, Any]
    prior_sha256: Sha256


class CalendarPublished(Event, frozen=True, kw_only=True, tag="calendar_published", gc=False):
    """Named days with their kinds, as a table, and its content hash."""

    calendar: dict[str, Any]
    calendar_sha256: Sha256


class PromotionScheduled(Event, frozen=True, kw_only=True, tag="promotion_scheduled", gc=False):
    """A reduction planned by the calendar: an exogenous price move of ``depth`` (share)."""

    skus: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=10_000)]
    from_time: EventTime
    to_time: EventTime
    kind: Name
    announced: bool
    depth: Rate

    def __post_init__(self) -> None:
        if self.to_time <= self.from_time:
            raise ValueError("Expected a time after `from_time` - at `$.to_time`")


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """What a command is about: one SKU, one family, or the whole catalogue."""

    kind: Literal["sku", "family", "catalogue"]
    name: Identifier | None = None

    def __post_init__(self) -> None:
        if (self.kind == "catalogue") != (self.name is None):
            raise ValueError("Expected a name for a SKU or family, none for the catalogue")


class OperatorCommand(Event, frozen=True, kw_only=True, tag="operator_command", gc=False):
    """A person steers: who, what, on what, why, until when.

    ``approve`` and ``reject`` answer a decision that waits, by its ``price_id``.
    """

    command: Literal[
        "breaker_trip", "breaker_reset", "kill_switch_on", "kill_switch_off", "approve", "reject"
    ]
    actor: Identifier
    reason: Annotated[str, Meta(min_length=1, max_length=2000)]
    scope: Scope
    expires_at: EventTime | None = None
    price_id: PriceId | UnsetType = UNSET

    def __post_init__(self) -> None:
        answers = self.command in ("approve", "reject")
        if answers and (self.scope.kind != "sku" or self.price_id is UNSET):
            raise ValueError("Expected a SKU and its `price_id` to approve or reject")


class BreakerTripped(Event, frozen=True, kw_only=True, tag="breaker_tripped", gc=False):
    """The monitor of all partitions found too many moves: the catalogue's breakers open.

    ``event_time`` is the sources', like a tick's; ``evidence`` the counts it was found by.
    """

    scope: Scope
    reason: Annotated[str, Meta(min_length=1, max_length=2000)]
    evidence: dict[str, Any] = {}


class ClockTicked(Event, frozen=True, kw_only=True, tag="clock_ticked", gc=False):
    """The partition's clock moves to ``event_time``; nothing else moves it."""


class EngineChanged(Event, frozen=True, kw_only=True, tag="engine_changed", gc=False):
    """From here on another engine fingerprint prices this partition.

    ``version`` is that of the program with the new engine; a tape from before it was told has none.
    """

    fingerprint: Annotated[str, Meta(min_length=1, max_length=2000)]
    previous: Annotated[str, Meta(min_length=1, max_length=2000)]
    worker: Identifier
    version: Annotated[str, Meta(max_length=64)] = ""


SkuScoped = (
    OrderPlaced
    | OrderCancelled
    | OrderReturned
    | CompetitorPriceObserved
    | InventoryChanged
    | TrafficCounted
    | ProductListed
    | CostChanged
    | ProductRetired
    | PriceApplied
)
Control = (
    PolicyPublished
    | PriorPublished
    | CalendarPublished
    | PromotionScheduled
    | OperatorCommand
    | BreakerTripped
    | ClockTicked
    | EngineChanged
)
AnyEvent = SkuScoped | Control

SOURCE_TYPES: dict[str, tuple[type[Event], ...]] = {
    "orders": (OrderPlaced, OrderCancelled),
    "returns": (OrderReturned,),
    "competitor-prices": (CompetitorPriceObserved,),
    "inventory": (InventoryChanged,),
    "traffic": (TrafficCounted,),
    "products": (ProductListed, CostChanged, ProductRetired, PriceApplied),
    "controls": (
        PolicyPublished,
        PriorPublished,
        CalendarPublished,
        PromotionScheduled,
        OperatorCommand,
        BreakerTripped,
        ClockTicked,
    ),
}
