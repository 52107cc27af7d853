"""The pricer's state: records on the compacted ``state`` topic, one key each.

========================  ==========================================================
key                       record
========================  ==========================================================
``sku/<SKU>``             `SkuState`: what was learned, published and is open (MessagePack)
``catalogue/<SKU>``       `CatalogueEntry`: listing and costs
``gate/<SKU>``            `GateEntry`: the publisher gate's own memory
``cohort/<SKU>/...``      `ReturnCohort`: sold units whose returns are still to come
``member/<SKU>``          `FamilyMember`: cross effects, of a family of several (MessagePack)
``policy`` ``prior``      the document in force
``returns``               `ReturnPool`: the pooled return model
``effects/<category>``    `CategoryEffects`: what a category's products share
``days`` ``channels``     `DayEffects` with the calendar, `ChannelEffects`
``searches`` ``today``    `SearchEffect`, `Today`: counts since the last day tick
``segments``              `ChannelEffects` of the customers' segments
``offers/<SKU>``          `Offers`: discounts by segment that stand
``breaker/...``           `BreakerState`: ``breaker/catalogue``, ``breaker/family/<family>``
``window/<SKU>``          `PriceWindow`: lowest prices shown, promotions, caps (MessagePack)
``manifest``              `Manifest`: position, clock, what was read, counts; always last
========================  ==========================================================
"""

from typing import Literal

from msgspec import Struct

from schemas.effects import MarketMemory
from schemas.learned import (
    CrossEffects,
    DemandPosterior,
    DriftSums,
    OpenEpoch,
    PriceClock,
    PriceSums,
    Quarantine,
    ReturnLevel,
)

STATE_VERSION = 2


class CatalogueEntry(Struct, frozen=True, kw_only=True, gc=False):
    """A product as listed, with its present costs.

    ``stamped``: which values changed last, with the event day and the value before.
    ``cost_ms`` is the event time of the cost in force; ``believed`` the last figures that were
    believable (`models.breaker.slips`), where those of the entry are not.
    """

    sku: str
    family: str
    category: str
    currency: str
    attributes: dict[str, float | str]
    unit_cost_minor: int | None
    return_handling_cost_minor: int | None
    list_price_minor: int | None
    minimum_resale_price_minor: dict[str, int]
    kept_share: float
    exit_ms: int | None
    predecessor: str | None
    retired: bool
    changed_ms: int
    role: str = "plain"
    anchors: tuple[str, ...] = ()
    stamped: dict[str, tuple[int, int]] = {}
    cost_ms: int | None = None
    believed: dict[str, int] = {}


class Rival(Struct, frozen=True, array_like=True, gc=False):
    """The last price seen of one competitor; None when it is not listed or not in stock."""

    price_minor: int | None
    seen_ms: int
    match_confidence: float


class BreakerState(Struct, frozen=True, array_like=True, gc=False):
    """A circuit breaker: state, since when (event time), why, and openings since it last closed.

    ``until_ms`` is when an operator's trip expires.
    """

    state: Literal["CLOSED", "HALF_OPEN", "OPEN"] = "CLOSED"
    since_ms: int = 0
    reasons: tuple[str, ...] = ()
    openings: int = 0
    until_ms: int | None = None


class Stock(Struct, frozen=True, array_like=True, gc=False):
    """Stock as last reported."""

    on_hand: int
    inbound: int
    inbound_eta_ms: int | None
    reported_ms: int


class Traffic(Struct, frozen=True, array_like=True, gc=False):
    """Visits per day: the reference (of the first whole day) and the present average.

    ``searches_per_day`` is their present average, None where none were ever counted; ``search_log``
    is the ln of the last count over it, and ``report_days`` how long that counted.
    """

    reference_per_day: float
    average_per_day: float
    counted_to_ms: int
    searches_per_day: float | None = None
    search_log: float = 0.0
    report_days: float = 1.0


class FirstTraffic(Struct, frozen=True, array_like=True, gc=False):
    """Visits counted before they make a whole day: an hour of the night is no typical one."""

    visits: int
    days: float
    counted_to_ms: int


class GateReduction(Struct, frozen=True, array_like=True, gc=False):
    """A reduction as the publisher gate knows it; one that was withdrawn is not ``announced``.

    Once it has begun and is known: whether it ``deepens`` another, and ``before_minor``, the price
    seen last before that, or before those that it deepens.
    """

    from_ms: int
    to_ms: int
    depth: float
    kind: str
    announced: bool
    deepens: bool | None = None
    before_minor: int | None = None


class GateEntry(Struct, kw_only=True):
    """What the publisher gate knows of a product, from catalogue events and published prices.

    ``trial_since_ms`` is when it was last first sold below the minimum resale price, on trial.
    ``shown``: from when which price was seen, by what the shop ``applies`` once it says so.
    """

    currency: str
    unit_cost_minor: int | None
    kept_share: float
    list_price_minor: int | None
    retired: bool
    published_minor: int | None
    published_day: int | None
    day_open_minor: int | None
    minimum_resale_price_minor: dict[str, int] = {}
    reference_price_minor: int | None = None
    sku: str = ""
    family: str = ""
    category: str = ""
    role: str = "plain"
    trial_since_ms: int | None = None
    published_ms: int | None = None
    applies: bool = False
    shown: tuple[tuple[int, int], ...] = ()
    reductions: tuple[GateReduction, ...] = ()


class Passport(Struct, frozen=True, array_like=True, gc=False):
    """Where a product's belief began: hash of the prior (its first 16 digits), distance of its
    attributes from those trained on (1 is typical), and when it graduated (event time).
    """

    prior: str
    attribute_distance: float | None = None
    graduated_ms: int | None = None


class Pending(Struct, frozen=True, array_like=True, gc=False):
    """A price that waits for approval: the tape offset of its decision, until when it waits
    (event time), and what exploration added to its log.
    """

    offset: int
    wanted_minor: int
    expires_ms: int
    exogenous_log: float = 0.0


class Rejected(Struct, frozen=True, array_like=True, gc=False):
    """A price that a person rejected at a tape offset, and what held then.

    It is not proposed again until one of these changes: the published price, the unit cost, the
    robust rival price (by 3 % or more), whether there is stock, the policy (its first digits).
    """

    price_minor: int
    offset: int
    published_minor: int | None
    unit_cost_minor: int | None
    rival_minor: int | None
    in_stock: bool
    policy: str


class PriceMove(Struct, frozen=True, array_like=True, gc=False):
    """The last move of the shown price that buyers may have noticed: when, and to what."""

    at_ms: int
    price_minor: int


class TrialState(Struct, frozen=True, array_like=True, gc=False):
    """A product that may be tried below its minimum resale price: when the last trial began
    (event time), its order lines, those through the channels of the trial, and whether the way
    back was asked for.
    """

    since_ms: int | None = None
    lines: int = 0
    lines_meant: int = 0
    is_over: bool = False


class SkuState(Struct, kw_only=True, array_like=True):
    """All that the fold keeps of one product, besides its catalogue entry.

    Fields stand by place and the record is packed, below a kilobyte: a new field goes to the end.
    ``recent_events`` are the digests of its last events, one after the other. ``unproven_minor`` is
    the price before the last move, until a decision finds nothing wrong with that move.
    """

    sku: str
    reference_price_minor: int | None = None
    posterior: DemandPosterior | None = None
    prior_kind: str = ""
    epoch: OpenEpoch | None = None
    returns: ReturnLevel | None = None
    stock: Stock | None = None
    traffic: Traffic | None = None
    rivals: dict[str, Rival] = {}
    stock_at_decision_units: int | None = None
    applied_minor: int | None = None
    published_minor: int | None = None
    published_ms: int | None = None
    published_exogenous_log: float = 0.0
    day_open_minor: int | None = None
    day_open: int | None = None
    exogenous_log: float | None = 0.0
    version: int = 0
    due_ms: int | None = None
    enough_ms: int | None = None
    decide_anew: str | None = None
    breaker: BreakerState = BreakerState()
    blocked: str | None = None
    recent_events: bytes = b""
    late_orders: int = 0
    unmatched_returns: int = 0
    drift: DriftSums | None = None
    quarantine: Quarantine | None = None
    quality_day: int | None = None
    market: MarketMemory | None = None
    passport: Passport | None = None
    profit_per_day_milli: int = 0
    probe_cost_per_day_milli: int = 0
    first_traffic: FirstTraffic | None = None
    pending: Pending | None = None
    rejected: Rejected | None = None
    unproven_minor: int | None = None
    price_move: PriceMove | None = None
    trial: TrialState | None = None


class FamilyMember(Struct, kw_only=True, array_like=True):
    """A product of a family of several: its price clock, and how partners' prices move it.

    ``began`` is where the partners' clocks stood when the open epoch began, in their order.
    """

    sku: str
    clock: PriceClock
    effects: CrossEffects | None = None
    began_ms: int = 0
    began: tuple[PriceSums, ...] = ()


class Offer(Struct, frozen=True, gc=False):
    """A segment's discount as last offered: it holds beside that list price, until then."""

    amount_minor: int
    list_price_minor: int
    until_ms: int
    renew_ms: int


class Offers(Struct, kw_only=True):
    """A product's standing discounts, by segment."""

    sku: str
    standing: dict[str, Offer]


class Promotion(Struct, frozen=True, array_like=True, gc=False):
    """A planned reduction of one product; ``log_depth`` is ``ln(1 - depth)``, exogenous.

    Once it has begun: ``prior_minor``, the prior price by market as it was then, and
    ``before_minor``, the price that buyers saw last. ``warned``: it was told that what is announced
    does not hold.
    """

    from_ms: int
    to_ms: int
    log_depth: float
    announced: bool
    kind: str
    depth: float
    prior_minor: dict[str, int] | None = None
    before_minor: int | None = None
    warned: bool = False


class PriceWindow(Struct, array_like=True, kw_only=True):
    """The prices that buyers saw of one product, as far as their lowest still matters.

    A monotonic queue: from ``since_ms[i]`` to now no price was below ``lowest_minor[i]``, and both
    rise. ``first_ms`` is when a price was first shown, ``looked_ms`` up to when the beginnings and
    ends of promotions and caps were seen to; ``cap_base_minor`` is the lowest price before each
    emergency cap that has begun, by its name and beginning.
    """

    sku: str
    looked_ms: int
    since_ms: list[int] = []
    lowest_minor: list[int] = []
    first_ms: int | None = None
    promotions: tuple[Promotion, ...] = ()
    cap_base_minor: dict[str, int] = {}


class Counts(Struct, kw_only=True):
    """What became of every record of the tape; running totals of the partition."""

    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    decisions: int = 0
    published: int = 0
    held: int = 0
    breaker_trips: int = 0
    ticks: int = 0
    drifts: int = 0
    probes: int = 0
    reverted: int = 0


class ExplorationLedger(Struct, frozen=True, kw_only=True, gc=False):
    """What the products of one currency are expected to earn and spend on probes.

    Money in thousandths of a minor unit; ``spent_milli`` since the tape began. ``budget_price``:
    see `models.pricing.exploration`.
    """

    profit_per_day_milli: int = 0
    cost_per_day_milli: int = 0
    spent_milli: int = 0
    budget_price: float = 1.0


class PolicyRecord(Struct, frozen=True):
    """The policy in force, as its text."""

    policy: str


class Manifest(Struct, kw_only=True):
    """One consistent cut: the state records are fold(tape up to ``position``)."""

    state_version: int = STATE_VERSION
    partition: int
    position: int = -1
    clock_ms: int | None = None
    returns_day: int | None = None
    high_water: dict[str, int] = {}
    kill_switch: str | None = None
    kill_switch_expires_ms: int | None = None
    engine: str
    calendar_sha256: str | None = None
    decisions_sha256: str = ""
    exploration: dict[str, ExplorationLedger] = {}
    counts: Counts
