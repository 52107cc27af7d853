"""The publisher gate: it refuses what the guards would refuse, and nothing that they allow."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from models.guards import gate, gate_reductions, guards
from models.guards.gate_rules import GateRules
from models.guards.guards import GuardInputs
from models.kernel.tile import Kernel
from schemas.events import CostChanged, ProductListed, ProductRetired, PromotionScheduled
from schemas.outputs import BreakerView, PriceDecided
from schemas.policy import EmergencyCap, GuardPolicy, MarketPolicy, Policy
from schemas.scopes import PolicyDocument
from schemas.state import GateEntry, GateReduction
from tests.models.tapes import Partition, at
from tests.models.test_guards import held as held_bounds
from tests.models.test_guards import priced

DAY_MS = 86_400_000
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
NOW_MS = 20_458 * DAY_MS + DAY_MS // 2
MARKUP = 2.0


def rules_of(policy: GuardPolicy | None = None) -> GateRules:
    """The gate's rules under a document that sets these guards and nothing else."""
    return GateRules(PolicyDocument({}, Policy(guards=policy or GuardPolicy()), ()))


RULES = rules_of()


def listing(**fields: Any) -> ProductListed:
    plain = {"event_id": "l", "event_time": NOW, "sku": "A", "currency": "EUR", "category": "c"}
    return ProductListed(**plain | {"unit_cost_minor": 500, "list_price_minor": 1000} | fields)


def cost(unit_cost_minor: int | None) -> CostChanged:
    return CostChanged(
        event_id="c", event_time=NOW, sku="A", currency="EUR", unit_cost_minor=unit_cost_minor
    )


def entry(published_minor: int | None = None, **fields: Any) -> GateEntry:
    """A listed product, its price published yesterday."""
    found = gate.listed(None, listing(**fields), RULES)
    if published_minor is not None:
        gate.published(found, published_minor, NOW_MS - DAY_MS, RULES)
    return found


def check(
    found: GateEntry | None, price_minor: int, policy: GuardPolicy | None = None, **changes: Any
) -> tuple[str, ...]:
    usual = {"currency": "EUR", "clock_ms": NOW_MS, "decided_ms": NOW_MS}
    return gate.check(found, price_minor, rules=rules_of(policy), gates={}, **usual | changes)


def test_an_entry_follows_the_catalogue_and_what_was_published() -> None:
    found = gate.listed(
        None, listing(vat_rate=0.25, fee_rate=0.1, minimum_resale_price_minor={"DE": 700}), MARKUP
    )
    gate.published(found, 900, NOW_MS, RULES)
    gate.published(found, 950, NOW_MS + 1, RULES)
    gate.published(found, 990, NOW_MS + DAY_MS, RULES)
    gate.cost_changed(found, cost(640), RULES)
    again = gate.listed(found, listing(unit_cost_minor=650, list_price_minor=1200), RULES)
    expected = GateEntry(
        currency="EUR",
        unit_cost_minor=640,
        kept_share=0.9 / 1.25,
        list_price_minor=1000,
        retired=False,
        published_minor=990,
        published_day=20_459,
        day_open_minor=950,
        minimum_resale_price_minor={"DE": 700},
        reference_price_minor=1000,
        sku="A",
        family="A",
        category="c",
        published_ms=NOW_MS + DAY_MS,
        shown=((NOW_MS, 900), (NOW_MS + 1, 950), (NOW_MS + DAY_MS, 990)),
    )
    assert found == expected
    assert (again.unit_cost_minor, again.list_price_minor, again.reference_price_minor) == (
        650, 1200, 1000,
    )  # fmt: skip
    assert (again.published_minor, again.day_open_minor) == (990, 950)


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        ({"list_price_minor": 1300}, 1300),
        ({"list_price_minor": None, "unit_cost_minor": 333, "vat_rate": 0.25}, 833),
        ({"list_price_minor": None, "unit_cost_minor": None}, None),
    ],
)
def test_the_reference_is_the_first_list_price_or_the_marked_up_cost(fields, reference) -> None:
    assert gate.listed(None, listing(**fields), RULES).reference_price_minor == reference


HELD = [
    # why, entry, price, policy, changes, reasons
    ("never listed", None, 1000, {}, {}, ("gate: product was never listed",)),
    ("another currency", entry(), 1000, {}, {"currency": "USD"},
     ("gate: currency USD is not the catalogue's EUR",)),
    ("decided more than a day before the tape's clock", entry(), 1000, {},
     {"decided_ms": NOW_MS - DAY_MS - 1},
     ("gate: decision is more than a day older than the tape's clock",)),
    ("no cost", entry(unit_cost_minor=None), 1000, {}, {}, ("gate: no unit cost, so no floor",)),
    ("below the margin floor of 500 / 0.95", entry(), 526, {}, {},
     ("gate: below the margin floor",)),
    ("below cost after VAT, so below the margin floor too", entry(vat_rate=0.25), 624,
     {"margin_floor_ratio": 0.0}, {},
     ("gate: below cost", "gate: below the margin floor")),
    ("below what was agreed for a market",
     entry(minimum_resale_price_minor={"DE": 700, "FR": 900}), 899,
     {"minimum_resale_price_markets": ("DE", "FR")}, {},
     ("gate: below the minimum resale price",)),
    ("above the list price", entry(), 1001, {}, {}, ("gate: beyond the list price ceiling",)),
    ("above twice the reference price", entry(list_price_minor=None), 2001, {}, {},
     ("gate: beyond the reference ceiling",)),
    ("far below the reference price", entry(unit_cost_minor=100), 399, {}, {},
     ("gate: beyond the reference floor",)),
    ("more than 10 % up", entry(900), 991, {}, {}, ("gate: beyond the step limit",)),
    ("more than 10 % down", entry(900), 809, {}, {}, ("gate: beyond the step limit",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "price_minor", "policy", "changes", "reasons"),
    [case[1:] for case in HELD],
    ids=[case[0] for case in HELD],
)
def test_what_it_holds_and_why(found, price_minor, policy, changes, reasons) -> None:
    assert check(found, price_minor, GuardPolicy(**policy), **changes) == reasons


PASSED = [
    # why, entry, price, policy
    ("a first price", entry(), 1000, {}),
    ("cost covered to the last minor unit", entry(vat_rate=0.25), 625, {"margin_floor_ratio": 0.0}),
    ("the minimum of a market that the policy does not name",
     entry(minimum_resale_price_minor={"DE": 900}), 700, {}),
    ("exactly 10 % up", entry(900), 990, {}),
    ("exactly 10 % down", entry(900), 810, {}),
    ("above the list price, but the floor demands it", entry(1000, unit_cost_minor=1500), 1579, {}),
    ("above the step limit, but the floor demands it",
     entry(600, unit_cost_minor=900), 948, {}),
    ("below the step limit, but the list price was cut",
     entry(1000, list_price_minor=700), 700, {}),
    ("... to no tick", entry(1000, list_price_minor=749), 740, {"tick_minor": 10}),
    ("... and a share of it is no whole number",
     entry(1000, list_price_minor=700), 693, {"ceiling_list_price_ratio": 0.9901}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "price_minor", "policy"), [case[1:] for case in PASSED], ids=[c[0] for c in PASSED]
)
def test_what_it_lets_pass(found, price_minor, policy) -> None:
    assert check(found, price_minor, GuardPolicy(**policy)) == ()


def test_a_ceiling_yields_to_the_floor_of_an_anchor_that_waives_none() -> None:
    policy = GuardPolicy(loss_leader="margin_floor", margin_floor_ratio=0.05)
    found = entry(role="anchor", unit_cost_minor=900, list_price_minor=800)
    assert check(found, 900, policy) == ()
    assert check(found, 947, policy) == ()
    assert check(found, 960, policy) == ("gate: beyond the list price ceiling",)
    assert check(found, 899, policy)[0] == "gate: below cost"


def test_the_days_limit_counts_from_the_price_the_day_began_with() -> None:
    found = entry(1000, list_price_minor=2000)
    gate.published(found, 1100, NOW_MS, RULES)
    gate.published(found, 1190, NOW_MS + 1, RULES)
    assert check(found, 1200) == ()
    assert check(found, 1201) == ("gate: beyond the day's step limit",)
    assert check(found, 1201, decided_ms=NOW_MS + DAY_MS, clock_ms=NOW_MS + DAY_MS) == ()


def test_nothing_is_published_of_a_retired_product_until_it_is_listed_again() -> None:
    found = entry(1000)
    gate.retired(found, ProductRetired(event_id="r", event_time=NOW, sku="A"))
    assert check(found, 1000) == ("gate: product is retired",)
    assert check(gate.listed(found, listing(), RULES), 1000) == ()


def test_looking_changes_nothing() -> None:
    found, before = entry(900), entry(900)
    check(found, 5, currency="USD")
    assert found == before


# -- laws: a product's life, once with the guards' inputs and once with the gate's entry


class Life:
    """What the engine and the gate each remember of one product."""

    def __init__(self, first: ProductListed) -> None:
        self.policy = GuardPolicy()
        self.at = NOW
        self.event = first
        self.cost_minor = first.unit_cost_minor or 1
        self.reference = first.list_price_minor or math.ceil(MARKUP * self.cost_minor)
        self.published: int | None = None
        self.day: int | None = None
        self.day_open: int | None = None
        self.entry = gate.listed(None, first, RULES)

    @property
    def now_ms(self) -> int:
        return NOW_MS + (self.at - NOW) // timedelta(milliseconds=1)

    def relist(self, list_price_minor: int | None, resale_minor: int | None) -> None:
        resale = {} if resale_minor is None else {"DE": resale_minor}
        self.event = listing(
            unit_cost_minor=self.cost_minor,
            list_price_minor=list_price_minor,
            minimum_resale_price_minor=resale,
        )
        self.entry = gate.listed(self.entry, self.event, RULES)

    def change_cost(self, cost_minor: int) -> None:
        self.cost_minor = cost_minor
        gate.cost_changed(self.entry, cost(cost_minor), RULES)

    def inputs(self) -> GuardInputs:
        same_day = self.day == self.now_ms // DAY_MS
        return GuardInputs(
            unit_cost_minor=self.cost_minor,
            kept_share=1.0,
            reference_price_minor=self.reference,
            list_price_minor=self.event.list_price_minor,
            minimum_resale_price_minor=self.event.minimum_resale_price_minor,
            previous_minor=self.published,
            day_anchor_minor=self.day_open if same_day else self.published,
        )

    def held(self, price_minor: int) -> tuple[str, ...]:
        return check(
            self.entry, price_minor, self.policy, clock_ms=self.now_ms, decided_ms=self.now_ms
        )

    def publish(self, price_minor: int) -> None:
        day = self.now_ms // DAY_MS
        if self.day != day:
            self.day = day
            self.day_open = price_minor if self.published is None else self.published
        self.published = price_minor
        gate.published(self.entry, price_minor, self.now_ms, rules_of(self.policy))


money = st.integers(1, 3000)


def guard_policy(steps: tuple[float, float], **rest: Any) -> GuardPolicy:
    return GuardPolicy(step_ratio_max=min(steps), day_step_ratio_max=max(steps), **rest)


policies = st.builds(
    guard_policy,
    st.tuples(st.floats(0.005, 0.5), st.floats(0.005, 0.5)),
    margin_floor_ratio=st.floats(0.0, 0.6),
    ceiling_list_price_ratio=st.floats(0.5, 1.5),
    ceiling_reference_ratio=st.floats(1.01, 3.0),
    floor_reference_ratio=st.floats(0.0, 1.0),
    tick_minor=st.sampled_from([1, 1, 5, 100]),
    minimum_resale_price_markets=st.sampled_from([(), ("DE",)]),
)
happenings = st.one_of(
    st.tuples(st.just("cost"), money),
    st.tuples(st.just("relist"), st.none() | money, st.none() | money),
    st.tuples(st.just("policy"), policies),
    st.tuples(st.just("hours"), st.integers(1, 30)),
    st.tuples(st.just("decide"), st.floats(0.1, 9000.0)),
    st.tuples(st.just("decide"), st.floats(0.1, 9000.0)),
)
lives = st.tuples(money, st.none() | money, st.lists(happenings, max_size=12))


def live(life: Life, happening: tuple[Any, ...]) -> float | None:
    """Let something happen; the aim, if it is a decision."""
    kind, *values = happening
    if kind == "cost":
        life.change_cost(values[0])
    elif kind == "relist":
        life.relist(*values)
    elif kind == "policy":
        life.policy = values[0]
    elif kind == "hours":
        life.at += timedelta(hours=values[0])
    return values[0] if kind == "decide" else None


@given(lives)
def test_whatever_the_guards_allow_passes(drawn) -> None:
    """Else a product would stand still for ever, held at a price that the guards left behind."""
    cost_minor, list_minor, story = drawn
    life = Life(listing(unit_cost_minor=cost_minor, list_price_minor=list_minor))
    for happening in story:
        aim = live(life, happening)
        if aim is not None:
            price, _ = priced(aim, life.inputs(), life.policy)
            assert life.held(price) == ()
            life.publish(price)


@given(lives, st.integers(1, 5000))
def test_what_lies_a_tick_beyond_the_guards_is_held(drawn, ticks) -> None:
    """The gate's slack is under a tick, and only where a rule yields to another."""
    cost_minor, list_minor, story = drawn
    life = Life(listing(unit_cost_minor=cost_minor, list_price_minor=list_minor))
    for happening in story:
        aim = live(life, happening)
        if aim is not None:
            life.publish(priced(aim, life.inputs(), life.policy)[0])
    found = held_bounds(life.inputs(), life.policy)
    allowed = guards.feasible(found, life.policy.tick_minor)
    price = ticks * life.policy.tick_minor
    slack = life.policy.tick_minor if allowed.gave_way else 1e-6
    outside = price < allowed.low_minor - slack or price > allowed.high_minor + slack
    if outside:
        assert life.held(price) != ()


# -- the outbox's last look


@pytest.fixture(scope="module")
def published(kernel: Kernel) -> PriceDecided:
    return Partition(kernel).send("product_listed", at()).decision


def test_a_published_decision_is_sound(published: PriceDecided) -> None:
    assert gate.decision_is_sound(published) == ()


def test_the_outbox_refuses_what_no_gate_should_have_let_through(published: PriceDecided) -> None:
    record = published.record
    assert record is not None
    open_record = replace(record, breaker=BreakerView(state="OPEN", reasons=("x",)))
    lacking = ("outbox: a published decision lacks its price or record",)
    for changed, reasons in (
        (replace(published, price_minor=None), lacking),
        (replace(published, record=None), lacking),
        (replace(published, price_minor=499), ("outbox: below cost",)),
        (replace(published, price_minor=500), ()),
        (replace(published, record=open_record), ("outbox: the breaker is open",)),
        (replace(published, record=open_record, status="reverted"), ()),
        (replace(published, record=open_record, status="held", price_minor=None), ()),
    ):
        assert gate.decision_is_sound(changed) == reasons


def test_an_announced_reduction_is_a_ceiling_lets_steps_go_and_leads_back() -> None:
    """10 % a step: 20 % off 1000 is 800 and no step; the way back is none either."""
    begins, ends = NOW_MS, NOW_MS + 2 * DAY_MS
    sale = PromotionScheduled(
        event_id="p", event_time=NOW, skus=("A",), from_time=NOW, to_time=NOW + timedelta(days=2),
        kind="winter", announced=True, depth=0.2,
    )  # fmt: skip
    found = entry(published_minor=1000)
    assert check(found, 800) == ("gate: beyond the step limit",)
    gate_reductions.announced(found, sale, NOW_MS)
    assert [check(found, price) for price in (798, 800, 801)] == [
        (), (), ("gate: beyond the announced reduction",)
    ]  # fmt: skip
    gate.published(found, 800, begins, RULES)
    later = {"clock_ms": ends, "decided_ms": ends}
    assert [check(found, price, **later) for price in (1000, 1001)] == [
        (), ("gate: beyond the list price ceiling", "gate: beyond the step limit")
    ]  # fmt: skip
    gate.published(found, 800, ends, RULES)
    assert check(found, 1000, **later) != ()


@pytest.mark.parametrize(
    ("market", "held"),
    [
        (MarketPolicy(), True),
        (MarketPolicy(prior_price_days=0), False),
        (MarketPolicy(prior_price_exempt_categories=("c",)), False),
        (MarketPolicy(new_arrival_days=7), False),  # its window may not reach the low price
    ],
)
def test_an_announced_reduction_binds_as_far_as_the_markets_rules_reach(market, held) -> None:
    document = PolicyDocument({}, Policy(markets={"DE": market}), ())
    found = replace(
        entry(list_price_minor=None, unit_cost_minor=100),
        reference_price_minor=1000,
        shown=((NOW_MS - 20 * DAY_MS, 800), (NOW_MS - 15 * DAY_MS, 1000)),
        reductions=(GateReduction(NOW_MS - DAY_MS, NOW_MS + DAY_MS, 0.1, "winter", True),),
    )
    reasons = gate.check(found, 900, "EUR", GateRules(document), {}, NOW_MS, NOW_MS)
    assert reasons == (("gate: beyond the announced reduction",) if held else ())


def test_the_reference_floor_gives_way_for_an_emergency_cap() -> None:
    cap = EmergencyCap(
        name="flood", ratio=0.5, reason="law", from_time=NOW - timedelta(days=1),
        expires_at=NOW + timedelta(days=1),
    )  # fmt: skip
    found = replace(entry(700, unit_cost_minor=100), shown=((NOW_MS - DAY_MS, 700),))
    assert check(found, 350) == ("gate: beyond the reference floor", "gate: beyond the step limit")
    assert check(found, 350, caps=(cap,)) == ()
