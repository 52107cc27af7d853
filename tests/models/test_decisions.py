"""Decisions: the way from belief to price is recorded, adds up, and gives the price again."""

import math
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernel.tile import Evaluation, Kernel
from models.prior.prior import DEFAULT_PRIOR, prior_sha256
from schemas.events import rfc3339
from schemas.outputs import BreakerView, DecisionRecord, PriceDecided
from schemas.scopes import parse_policy
from schemas.state import BreakerState
from tests.models.tapes import Partition, Seen, at, policy

EXACT = 1e-9  # relative; sums and differences of the same floats


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    return Partition(kernel)


def record_of(decision: PriceDecided) -> DecisionRecord:
    assert decision.record is not None
    return decision.record


def believe(shop: Partition, elasticity: float, sd: float) -> None:
    """Put a prior in force that believes so of every product."""
    prior = msgspec.structs.replace(
        DEFAULT_PRIOR,
        mean=(0.7, elasticity, 0.26, 0.0),
        cov=(0.25, 0.0, 0.0, 0.0, sd**2 / 2, 0.0, 0.0, 0.09, 0.0, 0.25),
        category_cov=(0.25, 0.0, 0.0, 0.0, sd**2 / 2, 0.0, 0.0, 0.04, 0.0, 0.04),
    )
    sent = {"prior": msgspec.to_builtins(prior), "prior_sha256": prior_sha256(prior)}
    shop.send("prior_published", at(), **sent)


def orders(shop: Partition, days: float, number: int, hours_apart: float = 1.0) -> list[Seen]:
    """Order lines at the price that the product has."""
    return [
        shop.send(
            "order_placed",
            at(days=days, hours=i * hours_apart),
            order_id=f"{days}-{i}",
            unit_price_minor=shop.state.published_minor,
        )
        for i in range(number)
    ]


# -- laws of the record

POLICIES = [
    policy(f"[guards]\ntick_minor = {tick}\nstep_ratio_max = {step}\n")
    for tick in (1, 10, 99)
    for step in (0.01, 0.1, 0.2)
]
TICKS = {
    one["policy_sha256"]: parse_policy(one["policy"]).base.guards.tick_minor for one in POLICIES
}

changes = st.one_of(
    st.tuples(
        st.just("cost_changed"),
        st.fixed_dictionaries({"unit_cost_minor": st.integers(50, 4000)}),
    ),
    st.tuples(
        st.just("product_listed"),
        st.fixed_dictionaries(
            {
                "unit_cost_minor": st.integers(50, 4000),
                "list_price_minor": st.none() | st.integers(100, 5000),
                "vat_rate": st.sampled_from([0.0, 0.19]),
            }
        ),
    ),
    st.tuples(st.just("inventory_changed"), st.fixed_dictionaries({"on_hand": st.integers(0, 60)})),
    st.tuples(
        st.just("competitor_price_observed"),
        st.fixed_dictionaries({"price_minor": st.integers(300, 3000)}),
    ),
    st.tuples(st.just("policy_published"), st.sampled_from(POLICIES)),
)  # fmt: skip


ENDS = ("rounded to the tick", "present price stays")


def decide(shop: Partition, happenings: list[tuple[str, dict[str, Any]]]) -> list[PriceDecided]:
    """Let things happen, seven hours apart, with a tick after each."""
    found = shop.send("product_listed", at()).decisions
    for number, (kind, fields) in enumerate(happenings, 1):
        found += shop.send(kind, at(hours=7 * number), **fields).decisions
        found += shop.tick(at(hours=7 * number, minutes=1)).decisions
    return found


@settings(max_examples=30)
@given(happenings=st.lists(changes, max_size=8))
def test_the_record_leads_to_the_price(kernel: Kernel, happenings) -> None:
    for decision in decide(Partition(kernel), happenings):
        record = record_of(decision)
        steps = [step for step in record.steps if step.name not in ENDS]
        names = [step.name for step in steps]
        guarded = [f"guard {clamp.guard}" for clamp in record.clamps]
        assert names[:2] == ["frictionless optimum", "with stock and risk"]
        assert names[len(names) - len(guarded) :] == guarded
        assert names[2 : len(names) - len(guarded)] in ([], ["exploration"], ["exploration kept"])
        assert record.steps[-1].price_minor == decision.wanted_minor
        tick, last = TICKS.get(decision.policy_sha256, 1), steps[-1].price_minor
        if "within the no-change band" in decision.reasons:
            assert decision.wanted_minor == decision.previous_minor
        elif guarded:  # to the safe side of the bound
            clamp = record.clamps[-1]
            safe = math.ceil if clamp.price_before_minor < last else math.floor
            assert decision.wanted_minor == safe(last / tick) * tick
        else:
            assert abs(decision.wanted_minor - last) < tick
            assert decision.wanted_minor % tick == 0


@settings(max_examples=30)
@given(happenings=st.lists(changes, max_size=8))
def test_the_ledger_adds_up(kernel: Kernel, happenings) -> None:
    """Each clamp takes the price over from the one before, and their costs are the whole cost."""
    for decision in decide(Partition(kernel), happenings):
        record = record_of(decision)
        steps = [step for step in record.steps if step.name not in ENDS]
        before = steps[-1 - len(record.clamps)]
        assert before.objective_per_day_minor is not None
        price, left = before.price_minor, before.objective_per_day_minor
        for clamp, step in zip(
            record.clamps, steps[len(steps) - len(record.clamps) :], strict=True
        ):
            assert clamp.price_before_minor == price != clamp.price_after_minor
            assert clamp.bound_minor == clamp.price_after_minor == step.price_minor
            assert step.objective_per_day_minor is not None
            price = clamp.price_after_minor
            left -= clamp.cost_per_day_minor
            scale = abs(before.objective_per_day_minor) + abs(step.objective_per_day_minor)
            assert left == pytest.approx(step.objective_per_day_minor, abs=EXACT * scale)
            assert f"guard: {clamp.guard}" in decision.reasons or decision.status == "held" or (
                "within the no-change band" in decision.reasons
            )  # fmt: skip


def test_a_shadow_price_is_what_one_minor_unit_of_room_is_worth(kernel: Kernel) -> None:
    """Against the objective of the same product with a ceiling one minor unit higher."""
    found = []
    for ratio in (1.0, 1.001):
        shop = Partition(kernel)
        believe(shop, -1.4, 0.1)
        text = f"[guards]\nceiling_list_price_ratio = {ratio}\n"
        shop.send("policy_published", at(), **policy(text))
        found.append(record_of(shop.send("product_listed", at()).decision))
    narrow, wide = found
    at_narrow, at_wide = (
        next(step for step in one.steps[::-1] if step.name not in ENDS) for one in found
    )
    assert (at_narrow.name, at_wide.name) == ("guard list_price_ceiling",) * 2
    assert at_narrow.objective_per_day_minor is not None
    assert at_wide.objective_per_day_minor is not None
    gained_per_day = at_wide.objective_per_day_minor - at_narrow.objective_per_day_minor
    gained = gained_per_day * narrow.stock.horizon_days
    worth = gained / (at_wide.price_minor - at_narrow.price_minor)
    assert wide.clamps[0].shadow_price < worth < narrow.clamps[0].shadow_price


def test_a_ceiling_costs_what_the_objective_loses(shop: Partition) -> None:
    """A product whose best price is far above its list price."""
    believe(shop, -1.4, 0.1)
    decision = shop.send("product_listed", at()).decision
    record = record_of(decision)
    (clamp,) = record.clamps
    assert (clamp.guard, clamp.price_after_minor, decision.price_minor) == (
        "list_price_ceiling", 1000.0, 1000,
    )  # fmt: skip
    assert clamp.shadow_price > 0.0  # a minor unit more of ceiling would earn more
    assert clamp.cost_per_day_minor > 0.0
    # the slope over the way cannot have been steeper than at the bound (the objective is concave)
    way = clamp.price_before_minor - clamp.price_after_minor
    assert clamp.cost_per_day_minor * record.stock.horizon_days < clamp.shadow_price * way


# -- the price


def test_a_move_that_gains_too_little_is_not_made(shop: Partition) -> None:
    believe(shop, -3.0, 0.1)  # known well: nothing to explore
    first = shop.send("product_listed", at()).decision
    second = shop.send("cost_changed", at(hours=1), unit_cost_minor=501).decision
    assert second.price_minor == second.wanted_minor == first.price_minor
    assert second.reasons == ("trigger: cost", "within the no-change band")
    *_, aimed, rounded, stayed = record_of(second).steps
    assert aimed.price_minor > first.price_minor + 1
    assert [rounded.name, stayed.name] == list(ENDS)
    assert second.acceptable is not None
    assert second.acceptable.low_minor <= first.price_minor <= second.acceptable.high_minor
    # the price is confirmed: its time runs anew
    assert (second.effective_from, second.valid_until) == (
        rfc3339(at(hours=1)), rfc3339(at(days=15, hours=1)),
    )  # fmt: skip
    third = shop.send("cost_changed", at(hours=2), unit_cost_minor=600).decision
    assert third.price_minor > first.price_minor
    assert "within the no-change band" not in third.reasons


def test_exploration_is_recorded_as_what_it_moved(shop: Partition) -> None:
    """A probe of 3 % up or down, kept until the epoch closes, and known to be exogenous."""
    first = shop.send("product_listed", at()).decision
    probe = math.copysign(0.03, first.exogenous_log)
    assert "exploration" in first.reasons
    steps = {step.name: step.price_minor for step in record_of(first).steps}
    assert steps["exploration"] == steps["with stock and risk"] * math.exp(probe)
    plain = math.ceil(steps["with stock and risk"] - 0.5)
    assert first.exogenous_log == math.log(first.price_minor / plain)
    assert shop.state.published_exogenous_log == first.exogenous_log
    assert shop.state.exogenous_log is None
    for hours in (1, 2, 3):
        again = shop.send("cost_changed", at(hours=hours), unit_cost_minor=500 + hours).decision
        assert again.exogenous_log == pytest.approx(probe, abs=0.001)


def test_without_exploration_nothing_is_exogenous(shop: Partition) -> None:
    shop.send("policy_published", at(), **policy("[decision]\nexploration_log = 0.0\n"))
    decision = shop.send("product_listed", at(hours=1)).decision
    assert (decision.reasons, decision.exogenous_log) == (("trigger: catalogue",), 0.0)


def test_probes_go_both_ways(kernel: Kernel) -> None:
    shop = Partition(kernel)
    found = [shop.send("product_listed", at(), sku=f"S{i}").decision for i in range(20)]
    ups = sum(decision.exogenous_log > 0 for decision in found)
    assert 4 <= ups <= 16


def test_stock_that_runs_short_raises_the_price(shop: Partition) -> None:
    shop.send("policy_published", at(), **policy("[guards]\nstep_ratio_max=0.2\n"))
    believe(shop, -3.0, 0.1)
    plenty = shop.send("product_listed", at()).decision
    scarce = shop.send("inventory_changed", at(hours=1), on_hand=3).decision
    assert scarce.price_minor > plenty.price_minor
    assert record_of(plenty).stock.skew_minor == pytest.approx(0.0, abs=20.0)
    assert record_of(scarce).stock.skew_minor > 20.0
    assert record_of(scarce).stock.sellable_units == 3
    assert plenty.greeks is not None
    assert scarce.greeks is not None
    assert (plenty.greeks.rho, plenty.greeks.price_stock) == (None, None)  # nothing to bump
    assert scarce.greeks.rho > 0.0
    assert scarce.greeks.price_stock is not None


def test_inbound_stock_shortens_the_horizon(shop: Partition) -> None:
    shop.send("product_listed", at())
    eta = rfc3339(at(days=3, hours=1))
    seen = shop.send("inventory_changed", at(hours=1), on_hand=9, inbound=50, inbound_eta=eta)
    assert record_of(seen.decision).stock.horizon_days == 3.0
    soon = rfc3339(at(hours=3))
    seen = shop.send("inventory_changed", at(hours=2), on_hand=2, inbound=50, inbound_eta=soon)
    assert (record_of(seen.decision).stock.horizon_days, record_of(
        seen.decision
    ).stock.sellable_units) == (7.0, 52)  # fmt: skip


def test_a_record_names_what_it_rests_on_and_how_old_that_is(shop: Partition) -> None:
    shop.send("product_listed", at(), vat_rate=0.25, fee_rate=0.1, return_handling_cost_minor=70)
    shop.send("inventory_changed", at(hours=1), on_hand=40)
    shop.send("competitor_price_observed", at(hours=2), price_minor=950)
    for day in (0, 1):
        shop.send(
            "traffic_counted",
            at(days=day + 1),
            from_time=rfc3339(at(days=day)),
            to_time=rfc3339(at(days=day + 1)),
            visits=100 + 140 * day,
        )
    decision = shop.send("cost_changed", at(days=3), unit_cost_minor=480).decision
    record = record_of(decision)
    hour = 3_600_000
    assert record.input_age_ms == {
        "catalogue": 0, "stock": 71 * hour, "traffic": 24 * hour, "rivals": 70 * hour,
    }  # fmt: skip
    assert (record.unit_cost_minor, record.kept_share, record.trigger) == (480, 0.72, "cost")
    assert (record.returns.handling_cost_minor, record.returns.handling_cost_source) == (
        70.0, "catalogue",
    )  # fmt: skip
    assert record.demand.reference_price_minor == 1000
    assert decision.margin_pct == round(100 - 100 * 480 / (decision.price_minor * 0.72), 3)


def test_a_minimum_resale_price_holds_where_the_policy_says_so(shop: Partition) -> None:
    agreed = {"DE": 930, "FR": 990}
    free = shop.send("product_listed", at(), minimum_resale_price_minor=agreed).decision
    assert free.price_minor < 930
    text = '[guards]\nminimum_resale_price_markets = ["DE"]\n'
    shop.send("policy_published", at(hours=1), **policy(text))
    held_up = shop.tick(at(hours=2)).decision
    assert (held_up.status, held_up.price_minor) == ("published", 930)  # beyond the step limit
    assert "gave way: step" in held_up.reasons


# -- the breaker, on real decisions


def breaker_alerts(*seen: Seen) -> list[tuple[str, list[str]]]:
    return [
        (alert.message, alert.evidence["states"])
        for one in seen
        for alert in one.alerts
        if alert.kind == "breaker_changed"
    ]


def test_a_product_that_may_be_inelastic_is_priced_by_rule_and_then_tripped(
    shop: Partition,
) -> None:
    believe(shop, -1.0, 0.5)
    new = shop.send("product_listed", at(), list_price_minor=None)
    unknown = "elasticity not yet known to be below -1"
    assert (new.decision.price_minor, new.decision.reasons) == (
        1000, ("trigger: catalogue", "expert price"),  # twice its cost
    )  # fmt: skip
    assert record_of(new.decision).breaker == BreakerView(state="HALF_OPEN", reasons=(unknown,))
    assert record_of(new.decision).demand.probability_inelastic == 0.5
    assert breaker_alerts(new) == [(f"CLOSED -> HALF_OPEN: {unknown}", ["CLOSED", "HALF_OPEN"])]
    # still new: a bounded step towards the rule's price, and no second alert
    dearer = shop.send("cost_changed", at(hours=1), unit_cost_minor=600)
    assert (dearer.decision.price_minor, breaker_alerts(dearer)) == (1020, [])
    # established by twenty orders at one price, which teach nothing of the elasticity
    for day in range(1, 5):
        orders(shop, day, 6)
    tripped = next(seen for seen in (shop.tick(at(days=d)) for d in range(2, 8)) if seen.decisions)
    why = "probability 0.51 that demand is inelastic beyond 0.25"
    assert (tripped.decision.status, tripped.decision.reasons) == ("held", (f"breaker: {why}",))
    assert tripped.decision.price_minor == 1020
    assert breaker_alerts(tripped) == [(f"HALF_OPEN -> OPEN: {why}", ["HALF_OPEN", "OPEN"])]


def test_sales_that_run_away_trip_at_once_and_a_canary_follows_a_day_later(
    shop: Partition,
) -> None:
    shop.send("product_listed", at())
    price = shop.state.published_minor
    seen = orders(shop, 0.1, 20, hours_apart=1 / 60)
    assert [len(one.decisions) for one in seen] == [0] * 19 + [1]
    trip = seen[-1].decision
    assert (trip.status, trip.price_minor, seen[-1].latest) == ("held", price, [])
    (reason,) = trip.reasons
    assert reason.startswith("breaker: sales ")
    assert reason.endswith(" times the upper forecast beyond 3")
    assert shop.state.breaker.state == "OPEN"
    # an order more changes nothing, nor does a cost: it is held
    assert orders(shop, 0.2, 1)[0].decisions == []
    held = shop.send("cost_changed", at(hours=12), unit_cost_minor=450).decision
    assert (held.status, held.reasons) == ("held", trip.reasons)
    # 24 hours after the trip, in the next round
    assert shop.tick(at(days=1, hours=23)).decisions == []
    canary = shop.tick(at(days=2))
    assert canary.decision.reasons[0] == "trigger: breaker cool-down"
    assert canary.decision.status == "published"
    assert abs(canary.decision.price_minor / price - 1) <= 0.02
    assert breaker_alerts(canary) == [
        ("OPEN -> HALF_OPEN -> CLOSED: canary passed", ["OPEN", "HALF_OPEN", "CLOSED"])
    ]
    assert shop.state.breaker == BreakerState("CLOSED", at(days=2), ())


def test_a_canary_that_dies_waits_twice_as_long(shop: Partition) -> None:
    """Stock that is not reported any more keeps the breaker open, ever longer."""
    shop.send("product_listed", at())
    shop.send("inventory_changed", at(hours=1), on_hand=30)
    days = [
        day
        for day in range(1, 80)
        for decision in shop.tick(at(days=day)).decisions
        if "breaker: stock not reported for" in decision.reasons[0]
    ]
    assert days[0] > 30
    assert [day - days[0] for day in days[:4]] == [0, 1, 3, 7]


class Unusable:
    """Kernels whose evaluations are no numbers."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.fingerprint = kernel.fingerprint

    def solve(self, rows: Any) -> Any:
        return self._kernel.solve(rows)

    def evaluate(self, rows: Any, prices: Any) -> list[Evaluation]:
        found = self._kernel.evaluate(rows, prices)
        return [
            one._replace(objectives=(math.nan,) * len(one.objectives), finite=False)
            for one in found
        ]


def test_what_is_no_number_is_never_published(shop: Partition, kernel: Kernel) -> None:
    price = shop.send("product_listed", at()).decision.price_minor
    shop.engine.kernel = Unusable(kernel)  # type: ignore[assignment]
    seen = shop.send("cost_changed", at(hours=1), unit_cost_minor=520)
    assert (seen.decision.status, seen.decision.reasons, seen.latest) == (
        "held", ("breaker: greeks are not finite",), [],
    )  # fmt: skip
    assert seen.decision.price_minor == price
    assert (seen.decision.greeks, seen.decision.record, seen.decision.acceptable) == (
        None, None, None,
    )  # fmt: skip


def test_a_decision_is_one_json_object_with_sorted_keys(shop: Partition) -> None:
    batch = shop.engine.apply([shop.tape.add("product_listed", at())])
    price, latest = batch.outputs
    assert (price.topic, latest.topic) == ("prices", "prices-latest")
    assert (price.key, price.value, price.headers) == (b"A", latest.value, latest.headers)
    document = orjson.loads(price.value)
    assert orjson.dumps(document, option=orjson.OPT_SORT_KEYS) == price.value
    assert document["type"] == "price_decided"
