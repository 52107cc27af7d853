"""Returns: cohorts and their late labels, the pooled model, a product's own level, the curve."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from models.demand.epoch import DAY_MS
from models.returns.cohorts import (
    COHORT_LINES_MAX,
    Cancelled,
    Matched,
    Unmatched,
    cancel,
    days_due,
    due,
    give_back,
    mean_ln_price,
    new_cohort,
    order_line_hash,
    sale,
    sell,
)
from models.returns.maturing import sales, sales_of
from models.returns.open_cohorts import OpenCohorts
from models.returns.return_curve import ReturnCurve, curve, learn_level, level_ratio, shrunk
from models.returns.return_delays import shares_by_age
from models.returns.return_features import Sale
from models.returns.returns import FEATURES_MAX, ReturnRateModel, ReturnSnapshot, Slope
from schemas.codec import canonical
from schemas.learned import DELAY_DAYS, ReturnCohort, ReturnLevel, ReturnPool
from tests.models.lessons import Lesson, columns, teach

DAY = 1_000
SHARES = (0.1, 0.3, 0.6, 0.9, 1.0)
MONTH = 9  # of event day 1,000


def sold_as(category: str = "shoes", segment: str | None = "all", ln_price: float = 0.0) -> Sale:
    return Sale(category, segment, MONTH, ln_price)


def rate_of(snapshot: ReturnSnapshot, category: str, segment: str | None = "all") -> float:
    return snapshot.rate(Sale(category, segment, None, 0.0))


def cohort_of(lines: int, units: int = 1, ln_price: float = 0.0) -> ReturnCohort:
    cohort = new_cohort("A1", "all", DAY * DAY_MS)
    for line in range(lines):
        assert sell(cohort, f"{line:016x}", units, ln_price, DAY * DAY_MS) == "tracked"
    return cohort


def test_an_order_line_hash_tells_order_and_line_apart() -> None:
    assert order_line_hash("A-1", "1") == "6aee2c0f3b3a476a"
    assert order_line_hash("A-11", "") != order_line_hash("A-1", "1")
    assert order_line_hash("1", "23") != order_line_hash("12", "3")


def test_a_cohort_adds_lines_and_averages_their_price() -> None:
    cohort = new_cohort("A1", "web", DAY * DAY_MS + 7)
    assert sell(cohort, "a", 2, 0.1, DAY * DAY_MS + 7) == "tracked"
    assert sell(cohort, "b", 80_995, -0.2, DAY * DAY_MS + 9) == "tracked"  # counts as 10 units
    assert cohort.lines == {"a": (2, 2, 7), "b": (80_995, 80_995, 9)}
    assert cohort.sold == 12.0
    assert mean_ln_price(cohort) == pytest.approx((2 * 0.1 - 10 * 0.2) / 12)
    assert mean_ln_price(new_cohort("A1", "web", 0)) == 0.0


def test_lines_that_cannot_be_tracked_are_left_out() -> None:
    cohort = cohort_of(COHORT_LINES_MAX)
    assert sell(cohort, "one more", 1, 0.0, DAY * DAY_MS) == "full"
    assert sell(cohort, f"{0:016x}", 1, 0.0, DAY * DAY_MS) == "tracked"  # of a known line
    assert cohort.sold == COHORT_LINES_MAX + 1
    teach(cohort, DAY + 4, sold_as(), SHARES)
    assert sell(cohort, f"{1:016x}", 1, 0.0, DAY * DAY_MS) == "late"
    old = new_cohort("A1", "all", DAY * DAY_MS)
    assert sell(old, "a", 1, 0.0, DAY * DAY_MS, today=DAY + 4) == "late"
    assert sell(old, "a", 1, 0.0, DAY * DAY_MS, today=DAY + 3) == "tracked"


AFTER = [  # why, line, units, days after the order, expected, bin it waits in
    ("half of it", "a", 2, 1.0, Matched(2, 0), 0),
    ("all of it, on the third day", "a", 4, 3.0, Matched(4, 0), 1),
    ("more than was sold is capped", "a", 9, 13.9, Matched(4, 5), 2),
    ("before it was sold: clocks differ", "a", 1, -0.1, Matched(1, 0), 0),
    ("days before it was sold: not its return", "a", 1, -1.1, Unmatched(1, "before_order"), None),
    ("late, still learned", "a", 1, 59.9, Matched(1, 0), 4),
    ("too late", "a", 1, 60.0, Unmatched(1, "expired"), None),
    ("another order", "b", 3, 1.0, Unmatched(3, "no_order"), None),
]


@pytest.mark.parametrize(("why", "line", "units", "days", "expected", "waits_in"), AFTER)
def test_a_return_finds_its_order_line(
    why: str,
    line: str,
    units: int,
    days: float,
    expected: Matched | Unmatched,
    waits_in: int | None,
) -> None:
    cohort = new_cohort("A1", "all", DAY * DAY_MS)
    sell(cohort, "a", 4, 0.0, DAY * DAY_MS + 5_000)
    now_ms = DAY * DAY_MS + 5_000 + round(days * DAY_MS)
    assert give_back(cohort, line, units, now_ms) == expected, why
    returned = [0.0] * 5
    if waits_in is not None and isinstance(expected, Matched):
        returned[waits_in] = float(expected.units)
    assert cohort.returned == returned


def test_a_return_without_its_cohort_or_twice_is_unmatched() -> None:
    assert give_back(None, "a", 2, 0) == Unmatched(2, "no_order")
    cohort = cohort_of(1)
    assert give_back(cohort, f"{0:016x}", 1, DAY * DAY_MS) == Matched(1, 0)
    assert give_back(cohort, f"{0:016x}", 1, DAY * DAY_MS) == Unmatched(1, "over_returned")


def test_a_return_that_comes_after_its_age_was_taught_waits_for_the_next() -> None:
    cohort = cohort_of(5)
    teach(cohort, DAY + 8, sold_as(), SHARES)  # ages 3 and 7
    assert give_back(cohort, f"{0:016x}", 1, (DAY + 1) * DAY_MS) == Matched(1, 0)
    assert cohort.returned == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_a_bulk_return_weighs_as_one_decision() -> None:
    cohort = new_cohort("A1", "all", DAY * DAY_MS)
    sell(cohort, "a", 1_000, 0.0, DAY * DAY_MS)
    give_back(cohort, "a", 500, DAY * DAY_MS)
    assert (cohort.sold, cohort.returned[0]) == (10.0, 5.0)


def test_a_cancelled_line_leaves_as_if_never_sold() -> None:
    cohort = cohort_of(3, units=2, ln_price=0.1)
    assert cancel(cohort, f"{2:016x}", 2) == Cancelled(2, DAY * DAY_MS, True)
    twin = cohort_of(2, units=2, ln_price=0.1)
    assert (cohort.lines, cohort.sold) == (twin.lines, twin.sold)
    assert cohort.ln_price_sum == pytest.approx(twin.ln_price_sum)
    assert cancel(cohort, f"{2:016x}", 2) is None
    assert cancel(None, "a", 1) is None
    assert cancel(cohort, f"{1:016x}", 1) == Cancelled(1, DAY * DAY_MS, False)
    assert cancel(cohort, f"{1:016x}", 9) == Cancelled(1, DAY * DAY_MS, True)
    assert cancel(cohort, f"{0:016x}", 9) == Cancelled(2, DAY * DAY_MS, True)
    assert (cohort.lines, cohort.sold, cohort.ln_price_sum) == ({}, 0.0, 0.0)


def test_what_a_cohort_teaches_at_each_age() -> None:
    cohort = cohort_of(10, ln_price=0.1)
    lines = iter(cohort.lines)
    give_back(cohort, next(lines), 1, (DAY + 1) * DAY_MS)
    give_back(cohort, next(lines), 1, (DAY + 5) * DAY_MS)

    assert not due(cohort, DAY + 3)  # the youngest unit may not be three days old
    first = teach(cohort, DAY + 4, sold_as(ln_price=0.1), SHARES)
    assert first == Lesson(
        sale=sold_as(ln_price=0.1),
        positives=1.0,
        exposure=pytest.approx(10 * 0.1),
        delays=((0, 1.0, 0.0),),
        final=None,
    )
    second = teach(cohort, DAY + 8, sold_as(ln_price=0.1), SHARES)
    assert second.exposure == pytest.approx(10 * 0.2)
    assert (second.positives, second.delays) == (1.0, ((1, 1.0, 1.0),))
    rest = teach(cohort, DAY + 61, sold_as(ln_price=0.1), SHARES)
    assert rest.final == (2.0, 8.0)
    assert rest.delays == ((2, 0.0, 2.0), (3, 0.0, 2.0), (4, 0.0, 2.0))
    exposure = first.exposure + second.exposure + rest.exposure
    assert exposure == pytest.approx(10.0)  # in the end: ten units, of which two returned
    assert not due(cohort, DAY + 1_000)


@given(st.integers(0, 80), st.integers(0, 80))
def test_a_quiet_stretch_teaches_the_same_in_one_go(first: int, second: int) -> None:
    days = sorted((DAY + first, DAY + second))

    def taught(at: list[int]) -> tuple[float, float]:
        cohort = cohort_of(7)
        give_back(cohort, f"{0:016x}", 1, (DAY + 5) * DAY_MS)
        lessons = [teach(cohort, day, sold_as(), SHARES) for day in at if due(cohort, day)]
        return (
            sum(lesson.positives for lesson in lessons),
            sum(lesson.exposure for lesson in lessons),
        )

    assert taught(days) == pytest.approx(taught(days[1:]))


@given(st.integers(0, 200), st.integers(1, 100))
def test_days_due_names_every_cohort_that_can_teach(previous: int, gap: int) -> None:
    day = previous + gap
    for age in range(1, gap + 70):
        cohort = new_cohort("A1", "all", (day - age) * DAY_MS)
        while due(cohort, previous):
            cohort.milestones_done += 1
        if due(cohort, day):
            assert cohort.day in days_due(previous, day)


class Shop(NamedTuple):
    """Units sold a day for ``days``, a share ``rate`` returned after delays by ``shares``."""

    rate: float
    shares: tuple[float, ...]
    days: int
    units_per_day: int = 150


def open_shop(shop: Shop, seed: int) -> tuple[ReturnRateModel, ReturnLevel | None]:
    """Live through the shop's first days and return what was learned."""
    rng, model, level = random.Random(seed), ReturnRateModel(), None
    cohorts: dict[int, ReturnCohort] = {}
    coming: dict[int, list[tuple[int, str, int]]] = {}
    ages = (0, *DELAY_DAYS)
    for day in range(shop.days):
        snapshot, lessons = model.snapshot(), []
        for sold_day in days_due(day - 1, day):
            cohort = cohorts.get(sold_day)
            if cohort is not None and due(cohort, day):
                sold_as = sale(cohort, "shoes")
                first = {"all": cohort.sold} if cohort.milestones_done == 0 else {}
                lesson = teach(cohort, day, sold_as, snapshot.delay_shares)
                lessons.append(lesson)
                expected = snapshot.rate(sold_as) * lesson.exposure
                level = learn_level(level, day, expected, lesson.positives, first)
        model.learn_lessons(columns(lessons))
        cohort = cohorts[day] = new_cohort("A1", "all", day * DAY_MS)
        for unit in range(shop.units_per_day):
            ordered_ms = day * DAY_MS + rng.randrange(DAY_MS)
            sell(cohort, f"{day}-{unit}", 1, rng.gauss(0.0, 0.1), ordered_ms)
            if rng.random() < shop.rate:
                drawn = rng.random()
                age = sum(drawn >= share for share in shop.shares)
                delay_ms = round(rng.uniform(ages[age], ages[age + 1]) * DAY_MS)
                back_ms = ordered_ms + delay_ms
                coming.setdefault(back_ms // DAY_MS, []).append((day, f"{day}-{unit}", back_ms))
        for sold_day, line, back_ms in coming.pop(day, []):
            assert isinstance(give_back(cohorts[sold_day], line, 1, back_ms), Matched)
    return model, level


def gamma_delays(mean_days: float) -> tuple[float, ...]:
    """G of a gamma distribution of shape 2, cut at 60 days."""
    came = [1.0 - math.exp(-2.0 * a / mean_days) * (1.0 + 2.0 * a / mean_days) for a in DELAY_DAYS]
    return tuple(share / came[-1] for share in came)


def log_odds(rate: float) -> float:
    return math.log(rate / (1.0 - rate))


@pytest.mark.parametrize("rate", [0.05, 0.25])
@pytest.mark.parametrize("mean_days", [7.5, 9.0, 11.0])
def test_a_young_shop_is_not_misled_by_returns_still_to_come(rate: float, mean_days: float) -> None:
    """Counting only closed orders knows nothing for 60 days; counting kept units as kept at once
    starts with far too low a rate. By 30 days, delays being learned too, the learned rate is right
    to within a sixth of a logit on average."""
    shares = gamma_delays(mean_days)
    shop = Shop(rate, shares, days=30)
    errors = []
    for seed in range(4):
        model, _ = open_shop(shop, seed)
        learned = model.snapshot().rate(Sale("shoes", "all", 1, 0.0))
        errors.append(log_odds(learned) - log_odds(rate))
    assert abs(sum(errors) / len(errors)) < 0.15
    assert all(abs(error) < 0.35 for error in errors)
    # the naive share after as many days: by how far returns still to come would mislead
    arrived = float(shares_by_age(shares, np.arange(float(shop.days))).sum())
    naive = rate * arrived / shop.days
    assert log_odds(naive) - log_odds(rate) < -0.3


def test_delays_other_than_expected_are_learned() -> None:
    quick = (0.5, 0.8, 0.95, 0.99, 1.0)
    model, level = open_shop(Shop(0.2, quick, days=150, units_per_day=60), seed=3)
    learned = model.snapshot().delay_shares
    assert learned == pytest.approx(quick, abs=0.04)
    assert log_odds(rate_of(model.snapshot(), "shoes")) == pytest.approx(log_odds(0.2), abs=0.15)
    assert level is not None
    assert level.segments.keys() == {"all"}


def lesson(category: str, returned: float, kept: float, ln_price: float = 0.0) -> Lesson:
    sold = sold_as(category, ln_price=ln_price)
    return Lesson(sold, returned, returned + kept)


def test_the_slope_in_price_and_the_categories_are_learned() -> None:
    rng, model = random.Random(4), ReturnRateModel()
    truth: dict[str, float] = {"shoes": 0.0, "lamps": -1.5}
    for _ in range(120):
        lessons = []
        for category, offset in truth.items():
            for ln_price in (-0.3, -0.1, 0.1, 0.3):
                rate = 1.0 / (1.0 + math.exp(1.2 - offset - 1.5 * ln_price))
                returned = sum(rng.random() < rate for _ in range(60))
                lessons.append(lesson(category, returned, 60 - returned, ln_price))
        model.learn_lessons(columns(lessons))
    snapshot = model.snapshot()
    slope = snapshot.slope("shoes", rival=False)
    assert slope.mean == pytest.approx(1.5, abs=3 * slope.sd)
    assert 0.0 < slope.sd < 0.2
    assert log_odds(rate_of(snapshot, "shoes")) == pytest.approx(-1.2, abs=0.15)
    assert log_odds(rate_of(snapshot, "lamps")) == pytest.approx(-2.7, abs=0.2)
    unseen = rate_of(snapshot, "toys", None)
    assert rate_of(snapshot, "lamps") < unseen < rate_of(snapshot, "shoes")


weights = st.floats(0.0, 60.0)
lessons_of_a_day = st.lists(
    st.builds(
        Lesson,
        sale=st.builds(
            Sale,
            category=st.sampled_from(["shoes", "lamps", "toys"]),
            segment=st.sampled_from(["all", "app"]),
            month=st.integers(1, 12),
            ln_price=st.floats(-3.0, 3.0),
            ln_rival=st.none() | st.floats(-3.0, 3.0),
        ),
        positives=weights,
        exposure=st.floats(-20.0, 60.0),
        delays=st.lists(st.tuples(st.integers(0, 4), weights, weights), max_size=2).map(tuple),
        final=st.none() | st.tuples(weights, weights),
    ),
    max_size=6,
)


@given(st.lists(lessons_of_a_day, max_size=8), st.integers(0, 8))
def test_a_stored_pool_has_the_same_future(days: list[list[Lesson]], cut: int) -> None:
    model = ReturnRateModel(prior_rate=0.15)
    for day in days[:cut]:
        model.learn_lessons(columns(day))
    stored = canonical(model.state())
    twin = ReturnRateModel.restore(msgspec.json.decode(stored, type=ReturnPool))
    assert canonical(twin.state()) == stored
    for day in days[cut:]:
        model.learn_lessons(columns(day))
        twin.learn_lessons(columns(day))
    assert canonical(twin.state()) == canonical(model.state())
    probe = Sale("shoes", "app", 3, 0.1, -0.1)
    assert twin.snapshot().rate(probe) == model.snapshot().rate(probe)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["all", "app"]),
            st.floats(-3.0, 3.0),
            st.none() | st.floats(-3.0, 3.0),
            st.integers(0, 80),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_columns_say_what_single_cohorts_say(
    rows: list[tuple[str, float, float | None, int]],
) -> None:
    found = []
    for number, (segment, ln_price, ln_rival, days) in enumerate(rows):
        cohort = new_cohort(f"A{number}", segment, (DAY + days) * DAY_MS)
        sell(cohort, "a", 2, ln_price, (DAY + days) * DAY_MS, ln_rival=ln_rival)
        found.append(cohort)
    snapshot = taught_model().snapshot()
    wanted = [sale(cohort, "shoes") for cohort in found]
    table = OpenCohorts([("", cohort) for cohort in found])
    seen = sales(table.of_products([cohort.sku for cohort in found]), ["shoes"] * len(found))
    given_rows = sales_of(wanted)
    assert [seen.kinds[place] for place in seen.kind] == [row[:3] for row in wanted]
    assert_array_equal(seen.ln_price, given_rows.ln_price)
    assert_array_equal(seen.ln_rival, given_rows.ln_rival)
    assert snapshot.rates(seen) == pytest.approx([snapshot.rate(one) for one in wanted], rel=1e-13)


@given(lessons_of_a_day, st.randoms(use_true_random=False))
def test_a_day_is_learned_in_an_order_of_its_own(lessons: list[Lesson], rng: random.Random) -> None:
    forward, shuffled = ReturnRateModel(), ReturnRateModel()
    forward.learn_lessons(columns(lessons))
    shuffled.learn_lessons(columns(rng.sample(lessons, len(lessons))))
    assert canonical(shuffled.state()) == canonical(forward.state())


@given(st.lists(lessons_of_a_day, max_size=8))
def test_any_history_leaves_rates_between_0_and_1(days: list[list[Lesson]]) -> None:
    model = ReturnRateModel()
    for day in days:
        model.learn_lessons(columns(day))
    snapshot = model.snapshot()
    for category in ("shoes", "unseen"):
        for ln_price in (-9.0, 0.0, 9.0):
            for ln_rival in (None, -9.0, 9.0):
                assert 0.0 < snapshot.rate(Sale(category, None, 3, ln_price, ln_rival)) < 1.0
    for _, mean, variance in model.state().logistic.weights:
        assert math.isfinite(mean)
        assert 0.0 < variance <= 1.0
    shares = snapshot.delay_shares
    assert list(shares) == sorted(shares)
    assert shares[0] >= 0.0
    assert shares[-1] == 1.0


def test_the_pool_has_a_limit_of_features() -> None:
    model = ReturnRateModel()
    lessons = (lesson(f"c{n:05d}", 1.0, 9.0) for n in range(FEATURES_MAX + 500))
    model.learn_lessons(columns(lessons))
    state = model.state()
    assert FEATURES_MAX - 6 <= len(state.logistic.weights) <= FEATURES_MAX
    assert len(state.factors) <= FEATURES_MAX


LEVELS: list[tuple[float, float, float]] = [  # expected, returned, ratio
    (0.0, 0.0, 1.0),
    (12.0, 0.0, 0.5),
    (12.0, 36.0, 2.0),
    (1e6, 0.0, 0.25),
    (0.0, 1e6, 4.0),
]


@pytest.mark.parametrize(("expected", "returned", "ratio"), LEVELS)
def test_a_products_level_is_shrunk_and_bounded(
    expected: float, returned: float, ratio: float
) -> None:
    level = ReturnLevel(expected_returns=expected, returned_units=returned, day=0)
    assert level_ratio(level) == ratio
    assert level_ratio(None) == 1.0


def test_a_level_forgets_by_half_in_180_days() -> None:
    first = learn_level(None, 100, 1.5, 2.0, {"app": 10.0})
    assert first == ReturnLevel(
        expected_returns=1.5, returned_units=2.0, day=100, segments={"app": 10.0}
    )
    later = learn_level(first, 280, 1.5, 2.0, {"web": 4.0})
    assert later == ReturnLevel(
        expected_returns=2.25, returned_units=3.0, day=280, segments={"app": 5.0, "web": 4.0}
    )
    crowded = later
    for number in range(20):
        crowded = learn_level(crowded, 280, 1.5, 2.0, {f"s{number}": 1.0})
    assert len(crowded.segments) == 8


def taught_model() -> ReturnRateModel:
    model = ReturnRateModel()
    for _ in range(40):
        rows = [
            lesson("shoes", 12.0, 28.0, -0.2),
            lesson("shoes", 16.0, 24.0, 0.2),
            lesson("lamps", 2.0, 38.0)._replace(sale=sold_as("lamps", "app")),
        ]
        model.learn_lessons(columns(rows))
    return model


def test_the_curve_has_the_pooled_value_and_slope_at_the_reference_price() -> None:
    snapshot = taught_model().snapshot()
    level = ReturnLevel(expected_returns=12.0, returned_units=24.0, day=0, segments={"all": 5.0})
    seen = curve(snapshot, level, "shoes", r_min=0.0, r_max=0.9)
    pooled = rate_of(snapshot, "shoes")
    assert seen.rate(0.0) == pytest.approx(1.5 * pooled)
    step = 1e-6
    growth = math.log(seen.rate(step) / seen.rate(-step)) / (2.0 * step)
    assert growth == pytest.approx((1.0 - pooled) * shrunk(seen.slope), rel=1e-5)
    assert seen.slope == snapshot.slope("shoes", rival=False)
    assert 0.0 < shrunk(seen.slope) < seen.slope.mean


def test_the_curve_averages_over_the_products_segments() -> None:
    snapshot = taught_model().snapshot()
    mixed = ReturnLevel(
        expected_returns=0.0, returned_units=0.0, day=0, segments={"app": 1.0, "all": 3.0}
    )
    expected = 0.25 * rate_of(snapshot, "shoes", "app") + 0.75 * rate_of(snapshot, "shoes")
    assert curve(snapshot, mixed, "shoes").rate(0.0) == pytest.approx(expected)


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6), st.sampled_from([(0.0, 0.9), (0.02, 0.3)]))
def test_the_curve_stays_inside_its_bounds(
    expected: float, returned: float, bounds: tuple[float, float]
) -> None:
    level = ReturnLevel(expected_returns=expected, returned_units=returned, day=0)
    seen = curve(taught_snapshot, level, "shoes", r_min=bounds[0], r_max=bounds[1])
    for ln_price in (-3.0, 0.0, 3.0):
        assert bounds[0] <= seen.rate(ln_price) <= bounds[1]
    assert 0.0 < seen.sd <= bounds[1] - bounds[0]


taught_snapshot = taught_model().snapshot()


def test_the_curves_doubt_shrinks_as_orders_come() -> None:
    young = curve(ReturnRateModel().snapshot(), None, "shoes")
    assert young.rate(0.0) == pytest.approx(0.1)
    assert young.sd / young.rate(0.0) == pytest.approx(math.sqrt(1 / 12 + 0.81 * (0.25 + 0.16)))
    old = curve(
        taught_snapshot,
        ReturnLevel(expected_returns=300.0, returned_units=300.0, day=0),
        "shoes",
    )
    assert old.sd / old.rate(0.0) < 0.12


@pytest.mark.parametrize("bounds", [(-0.1, 0.5), (0.5, 0.5), (0.2, 1.0)])
def test_bounds_of_the_return_rate_are_checked(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected 0 <= r_min < r_max < 1"):
        curve(taught_snapshot, None, "shoes", r_min=bounds[0], r_max=bounds[1])


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: ReturnRateModel(prior_rate=0.0), r"prior_rate was 0\.0"),
    (
        lambda: ReturnRateModel().learn_one({"ln_price": math.nan}, True),
        "log price ratio was nan",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_cannot_be_learned_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_curve_is_logistic_in_log_price() -> None:
    seen = ReturnCurve(0.1, 0.5, 0.3, 2.0, 0.01, Slope(2.0, 0.5))
    assert seen.rate(0.2) == pytest.approx(0.1 + 0.4 / (1.0 + math.exp(-0.7)))
