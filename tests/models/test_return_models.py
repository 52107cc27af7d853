"""Parts of the return rate: posterior, factors, delays, calibration, slope, reserve."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import optim
from river.linear_model import LogisticRegression

from models.returns.cohorts import give_back, new_cohort, order_line_hash, sale, sell
from models.returns.liability import NONE_OPEN, Liability, Owner, ReturnCosts, liability, mark
from models.returns.logistic import LEVEL, PosteriorLogistic, WeightPrior
from models.returns.open_cohorts import OpenCohorts
from models.returns.return_curve import curve, probability_positive, product_rate, shrunk
from models.returns.return_delays import NO_DELAYS, delay_shares, learn_delays, shares_by_age
from models.returns.return_factors import FactorRates
from models.returns.return_features import Sale
from models.returns.returns import ReturnRateModel, Slope
from schemas.events import DAY_MS
from schemas.learned import DELAY_DAYS, ReturnCohort, ReturnLevel
from tests.models.lessons import Lesson, columns

DAY = 20_089  # 2025-01-01
COSTS = ReturnCosts(1_000, 0.8, 90.0, 500.0)
PRIORS = {
    LEVEL: WeightPrior(0.0, 1.0, 0.0),
    "price": WeightPrior(0.0, 1.0, 0.0),
    "rival": WeightPrior(0.0, 1.0, 0.0),
}


def lesson(sold: Sale, returned: float, kept: float, *, closed: bool = False) -> Lesson:
    final = (returned, kept) if closed else None
    return Lesson(sold, returned, returned + kept, final=final)


def weights(model: PosteriorLogistic) -> dict[str, tuple[float, float]]:
    return {name: (mean, variance) for name, mean, variance in model.state().weights}


def test_the_posterior_is_that_of_a_logistic_regression() -> None:
    """Against Newton's method on all labels at once: the mode and the Laplace covariance."""
    rng, model = random.Random(1), PosteriorLogistic(-2.0, PRIORS, (LEVEL, "price"))
    rows = []
    for _ in range(4_000):
        price = rng.gauss(0.0, 0.3)
        returned = rng.random() < 1.0 / (1.0 + math.exp(1.4 - 1.5 * price))
        rows.append((price, returned))
        model.learn({LEVEL: 1.0, "price": price}, float(returned), float(not returned))
    level = slope = 0.0
    for _ in range(30):
        gradient, bend = [-level, -slope], [1.0, 0.0, 1.0]
        for price, returned in rows:
            rate = 1.0 / (1.0 + math.exp(2.0 - level - slope * price))
            gradient[0] += returned - rate
            gradient[1] += (returned - rate) * price
            information = rate * (1.0 - rate)
            bend = [bend[0] + information, bend[1] + information * price,
                    bend[2] + information * price * price]  # fmt: skip
        size = bend[0] * bend[2] - bend[1] ** 2
        level += (bend[2] * gradient[0] - bend[1] * gradient[1]) / size
        slope += (bend[0] * gradient[1] - bend[1] * gradient[0]) / size
    learned = weights(model)
    sds = math.sqrt(bend[2] / size), math.sqrt(bend[0] / size)
    assert learned[LEVEL][0] == pytest.approx(level, abs=0.25 * sds[0])
    assert learned["price"][0] == pytest.approx(slope, abs=0.25 * sds[1])
    assert math.sqrt(learned[LEVEL][1]) == pytest.approx(sds[0], rel=0.05)
    assert math.sqrt(learned["price"][1]) == pytest.approx(sds[1], rel=0.05)


class AlongThePosterior(optim.base.Optimizer):
    """Moves each weight by ``direction[name]`` times the derivative of the loss."""

    direction: dict[str, float]

    def _step_with_dict(self, w: Any, g: Any) -> Any:
        for name, length in self.direction.items():
            w[name] -= length * g[LEVEL]
        return w


@given(
    st.lists(
        st.tuples(
            st.floats(-1.0, 1.0),
            st.none() | st.floats(-1.0, 1.0),
            st.floats(-3.0, 9.0),
            st.floats(-3.0, 30.0),
        ),
        max_size=12,
    )
)
def test_a_step_is_that_of_rivers_logistic_regression(
    rows: list[tuple[float, float | None, float, float]],
) -> None:
    """With the posterior's direction as its optimizer; both labels of a row in turn."""
    model = PosteriorLogistic(-2.0, PRIORS, (LEVEL, "price", "rival"))
    step = AlongThePosterior(1.0)
    river = LogisticRegression(optimizer=step, intercept_init=-2.0, intercept_lr=0.0)
    for price, rival, positives, negatives in rows:
        row = {LEVEL: 1.0, "price": price} | ({} if rival is None else {"rival": rival})
        small = 0.005  # one share, and far from the weights' limits
        positives, negatives = small * positives, small * negatives
        rate = river.predict_proba_one(row)[True]
        along = model._along(row)
        spread = sum(value * along[name] for name, value in row.items())
        information = max(positives + negatives, 0.0) * rate * (1.0 - rate)
        gain = 1.0 / (1.0 + information * spread)
        step.direction = {name: along[name] * gain for name in row}
        river.learn_one(row, True, w=positives)
        river.learn_one(row, False, w=negatives)
        model.learn(row, positives, negatives)
    for name, weight in river.weights.items():
        assert model.means()[name] == pytest.approx(weight, rel=1e-9, abs=1e-12)


def test_a_large_weight_at_once_does_not_overshoot() -> None:
    model = PosteriorLogistic(-2.0, PRIORS, (LEVEL,))
    model.learn({LEVEL: 1.0}, 30_000.0, 70_000.0)
    mean, variance = weights(model)[LEVEL]
    assert 1.0 / (1.0 + math.exp(2.0 - mean)) == pytest.approx(0.3, abs=0.03)
    assert 0.0 < variance < 1e-3


def test_a_missing_rival_teaches_nothing_about_its_weight() -> None:
    model = PosteriorLogistic(-2.0, PRIORS, (LEVEL, "price", "rival"))
    rng = random.Random(2)
    for _ in range(300):
        row = {LEVEL: 1.0, "price": rng.gauss(0.0, 0.2), "rival": rng.gauss(0.0, 0.2)}
        model.learn(row, 3.0 * rng.random(), 7.0)
    before = weights(model)["rival"]
    for _ in range(300):
        model.learn({LEVEL: 1.0, "price": rng.gauss(0.0, 0.2)}, 5.0, 5.0)
    assert weights(model)["rival"] == before
    variance = model.posterior().variance
    for along in ({"price": 1.0, "rival": -1.0}, {LEVEL: 1.0, "price": 2.0, "rival": 3.0}):
        assert variance(along) > 0.0


def test_knowledge_wears_off_up_to_the_priors_doubt() -> None:
    priors = {LEVEL: WeightPrior(0.0, 0.25, 0.01)}
    model = PosteriorLogistic(-2.0, priors, (LEVEL,))
    model.learn({LEVEL: 1.0}, 10.0, 90.0)
    known = weights(model)[LEVEL][1]
    model.walk()
    assert weights(model)[LEVEL][1] == pytest.approx(known + 0.01)
    for _ in range(100):
        model.walk()
    assert weights(model)[LEVEL][1] == 0.25


def test_factors_multiply_and_share_what_they_explain() -> None:
    rates = FactorRates(0.1)
    assert rates.product([LEVEL, "category=shoes"]) == 0.1
    rates.learn([LEVEL, "category=shoes"], 15.0, 100.0)
    # the level: (5 + 15) / (5 + 10); the category beside it: (10 + 15) / (10 + 100 * 0.1 * 4/3)
    assert rates.counts == {
        LEVEL: (15.0, pytest.approx(10.0)),
        "category=shoes": (15.0, pytest.approx(13.3333333)),
    }
    assert rates.product([LEVEL, "category=shoes"]) == pytest.approx(0.1 * 4 / 3 * 25 / 23.3333333)
    for _ in range(3_000):
        rates.learn([LEVEL, "category=shoes"], 20.0, 100.0)
        rates.learn([LEVEL, "category=lamps"], 5.0, 100.0)
    assert rates.product([LEVEL, "category=shoes"]) == pytest.approx(0.2, abs=0.005)
    assert rates.product([LEVEL, "category=lamps"]) == pytest.approx(0.05, abs=0.005)


def test_an_age_not_yet_reached_follows_from_the_ages_that_were() -> None:
    """Half of what came by 7 days had come by 3: returns are quick, so 14 days show nearly all."""
    unknown = delay_shares(NO_DELAYS)
    quick = delay_shares(learn_delays(NO_DELAYS, [(1, 300.0, 300.0)]))
    slow = delay_shares(learn_delays(NO_DELAYS, [(1, 450.0, 150.0)]))
    assert quick[2] > unknown[2] > slow[2]
    assert quick[0] / quick[1] == pytest.approx(0.5, abs=0.01)
    counted = [(1, 300.0, 300.0), (2, 600.0, 600.0), (3, 0.0, 1200.0), (4, 0.0, 1200.0)]
    assert delay_shares(learn_delays(NO_DELAYS, counted)) == pytest.approx(
        (0.25, 0.5, 1.0, 1.0, 1.0), abs=0.02
    )


def taught(
    rate_of: dict[str, float], sold: Sale, *, closed: bool, days: int = 60
) -> ReturnRateModel:
    model = ReturnRateModel()
    for _ in range(days):
        model.learn_lessons(
            columns(
                lesson(sold._replace(category=name), 40 * rate, 40 * (1 - rate), closed=closed)
                for name, rate in rate_of.items()
            )
        )
    return model


def test_without_closed_cohorts_the_average_stays_as_it_is() -> None:
    sold = Sale("shoes", "all", 1, 0.0)
    snapshot = taught({"shoes": 0.2, "lamps": 0.05}, sold, closed=False).snapshot()
    assert snapshot.calibration == (0.0, 1.0)
    assert math.log(snapshot.rate(sold) / (1 - snapshot.rate(sold))) == pytest.approx(
        0.5 * sum(snapshot.logits(sold))
    )


def test_closed_cohorts_correct_a_bias_and_keep_the_order_of_rates() -> None:
    """Lessons said 0.2 and 0.05 while in the end 0.26 and 0.07 came back: delays were misjudged."""
    sold, model = Sale("shoes", "all", 1, 0.0), ReturnRateModel()
    for _ in range(120):
        for name, learned, final in (("shoes", 0.2, 0.26), ("lamps", 0.05, 0.07)):
            one = lesson(sold._replace(category=name), 40 * learned, 40 * (1 - learned))
            model.learn_lessons(columns([one._replace(final=(40 * final, 40 * (1 - final)))]))
    snapshot = model.snapshot()
    assert snapshot.rate(sold) == pytest.approx(0.26, abs=0.02)
    assert snapshot.rate(sold._replace(category="lamps")) == pytest.approx(0.07, abs=0.01)
    rates = [snapshot.rate(sold._replace(ln_price=x / 100)) for x in range(-50, 51)]
    assert snapshot.calibration[1] > 0.0
    assert snapshot.slope("shoes", rival=False).mean * (rates[-1] - rates[0]) >= 0.0


def test_season_is_pooled_and_does_not_harm_a_first_year() -> None:
    """A month more is no news where nothing changed; and a month with twice the returns shows."""
    sold, rng = Sale("shoes", "all", 1, 0.0), random.Random(5)
    model, steady = ReturnRateModel(), ReturnRateModel()
    for day in range(365):
        month = min(day // 30 + 1, 12)
        high = 0.2 if month == 12 else 0.1
        for one, rate in ((model, high), (steady, 0.1)):
            returned = sum(rng.random() < rate for _ in range(60))
            row = lesson(sold._replace(month=month), returned, 60.0 - returned)
            one.learn_lessons(columns([row]))
    calm, seen = steady.snapshot(), model.snapshot()
    effects = [calm.weights[f"month={month:02d}"] for month in range(1, 13)]
    assert max(abs(effect) for effect in effects) < 0.2
    assert calm.rate(sold._replace(month=6)) == pytest.approx(0.1, abs=0.02)
    assert seen.rate(sold._replace(month=12)) > 1.4 * seen.rate(sold._replace(month=6))


@pytest.mark.parametrize("true", [-1.5, 1.5])
def test_the_sign_of_the_price_slope_is_learned_with_its_probability(true: float) -> None:
    rng, model = random.Random(6), ReturnRateModel()
    young = model.snapshot().slope("shoes", rival=False)
    assert (young.mean, probability_positive(young), shrunk(young)) == (0.0, 0.5, 0.0)
    for _ in range(120):
        lessons = []
        for _ in range(8):
            price = rng.gauss(0.0, 0.15)
            rate = 1.0 / (1.0 + math.exp(1.8 - true * price))
            returned = sum(rng.random() < rate for _ in range(10))
            lessons.append(lesson(Sale("shoes", "all", 1, price), returned, 10.0 - returned))
        model.learn_lessons(columns(lessons))
    slope = model.snapshot().slope("shoes", rival=False)
    assert slope.mean == pytest.approx(true, abs=3.0 * slope.sd)
    assert slope.sd < 0.6
    assert (probability_positive(slope) > 0.97) is (true > 0.0)
    assert (probability_positive(slope) < 0.03) is (true < 0.0)
    assert 0.0 < shrunk(slope) / slope.mean < 1.0


def test_without_a_price_effect_the_slope_stays_near_zero_and_moves_nothing() -> None:
    rng, model = random.Random(7), ReturnRateModel()
    for _ in range(120):
        lessons = []
        for _ in range(8):
            returned = sum(rng.random() < 0.12 for _ in range(10))
            sold = Sale("shoes", "all", 1, rng.gauss(0.0, 0.15), rng.gauss(0.0, 0.1))
            lessons.append(lesson(sold, returned, 10.0 - returned))
        model.learn_lessons(columns(lessons))
    snapshot = model.snapshot()
    slope = snapshot.slope("shoes", rival=False)
    assert abs(slope.mean) < 2.5 * slope.sd
    rival = snapshot.posterior.variance({"rival": 1.0}) ** 0.5
    assert abs(snapshot.weights["rival"]) < 2.5 * rival
    seen = curve(snapshot, None, "shoes", month=1, ln_rival=0.0)
    assert seen.rate(0.3) == pytest.approx(seen.rate(0.0), rel=0.25)


@given(st.floats(-5.0, 5.0), st.floats(0.01, 5.0))
def test_a_slope_is_shrunk_toward_zero_and_keeps_its_sign(mean: float, sd: float) -> None:
    found = shrunk(Slope(mean, sd))
    assert found * mean >= 0.0
    assert abs(found) <= abs(mean)
    assert 0.0 <= probability_positive(Slope(mean, sd)) <= 1.0


def test_a_cohort_averages_its_rival_where_most_units_had_one() -> None:
    cohort = new_cohort("A", "all", DAY * DAY_MS)
    sell(cohort, "a", 3, 0.1, DAY * DAY_MS, ln_rival=-0.2)
    sell(cohort, "b", 1, 0.1, DAY * DAY_MS)
    assert sale(cohort, "shoes") == Sale("shoes", "all", 1, 0.1, pytest.approx(-0.2))
    sell(cohort, "c", 2, 0.1, DAY * DAY_MS)
    assert sale(cohort, "shoes").ln_rival is None


def test_the_reserve_is_units_times_probability_times_cost() -> None:
    cohort = new_cohort("A", "all", DAY * DAY_MS)
    sell(cohort, "a", 10, math.log(1.25), DAY * DAY_MS)
    model, level = ReturnRateModel(), ReturnLevel(
        expected_returns=12.0, returned_units=24.0, day=DAY
    )  # fmt: skip
    snapshot = model.snapshot()
    rate = product_rate(snapshot, level, sale(cohort, "shoes"))
    assert rate == pytest.approx(0.15)
    now_ms = DAY * DAY_MS + DAY_MS // 2 + 7 * DAY_MS  # its orders count as made at noon
    share = snapshot.delay_shares[1]
    back = 10 * rate * (1 - share) / (1 - rate * share)

    def at(time_ms: int) -> Liability:
        found = OpenCohorts([("", cohort)]).of_products(["A"])
        owner = Owner(level, "shoes", time_ms, None)
        return liability(mark(found, [owner], snapshot)[0], COSTS)

    assert at(now_ms) == Liability(10, pytest.approx(back), round(back * (0.8 * 1_250 + 90 - 500)))
    later_ms = DAY * DAY_MS + DAY_MS // 2 + 60 * DAY_MS
    assert at(later_ms) == Liability(10, 0.0, 0)
    assert liability(NONE_OPEN, COSTS) == Liability(0, 0.0, 0)


def test_expected_returns_are_a_martingale_and_unwind_to_zero() -> None:
    """With rates and delays known: returns so far plus those expected keep their mean, every day,
    and at 60 days all is realised. Over 300 cohorts of 20 orders at noon."""
    rng, snapshot = random.Random(8), ReturnRateModel(prior_rate=0.2).snapshot()
    shares, ages = snapshot.delay_shares, (0, *DELAY_DAYS)
    start_ms = DAY * DAY_MS + DAY_MS // 2
    open_cohorts: list[ReturnCohort] = []
    coming: list[tuple[int, ReturnCohort, str]] = []
    for number in range(300):
        cohort = new_cohort("A", f"s{number}", start_ms)
        open_cohorts.append(cohort)
        rate = snapshot.rate(sale(cohort, "shoes"))
        for unit in range(20):
            line = order_line_hash(str(number), str(unit))
            sell(cohort, line, 1, 0.0, start_ms)
            if rng.random() < rate:
                drawn = rng.random()
                age = sum(drawn >= share for share in shares)
                low = 0.0 if age == 0 else shares[age - 1]
                part = (drawn - low) / (shares[age] - low)
                days = ages[age] + part * (ages[age + 1] - ages[age])
                coming.append((start_ms + int(days * DAY_MS), cohort, line))
    coming.sort(key=lambda one: one[0])
    total, realised = 300 * 20 * 0.2, 0
    sd = math.sqrt(300 * 20 * 0.2 * 0.8)
    for day in range(61):
        now_ms = start_ms + day * DAY_MS
        while coming and coming[0][0] <= now_ms:
            at_ms, cohort, line = coming.pop(0)
            give_back(cohort, line, 1, at_ms)
            realised += 1
        table = OpenCohorts((one.segment, one) for one in open_cohorts)
        (marked,) = mark(table.of_products(["A"]), [Owner(None, "shoes", now_ms, None)], snapshot)
        found = liability(marked, COSTS)
        assert found.open_units == 6_000 - realised
        assert realised + found.expected_back_units == pytest.approx(total, abs=3.0 * sd)
        per_unit = 0.8 * 1_000 + 90 - 500
        assert found.reserve_minor == round(found.expected_back_units * per_unit)
    assert (found.expected_back_units, found.reserve_minor, coming) == (0.0, 0, [])
    assert realised == pytest.approx(total, abs=3.0 * sd)


@given(st.floats(-10.0, 100.0))
def test_the_share_by_age_rises_from_0_to_1(age_days: float) -> None:
    shares = delay_shares(NO_DELAYS)
    younger, older = shares_by_age(shares, np.array([age_days, age_days + 1.0])).tolist()
    assert 0.0 <= younger <= older <= 1.0


GARBAGE = [
    ("all of a bulk order comes back", [(10_000.0, 10_000.0, 0.0, None)] * 30),
    ("nothing ever comes back", [(0.0, 5_000.0, 0.0, None)] * 30),
    ("absurd prices and rivals", [(5.0, 40.0, 9.0, -30.0), (5.0, 40.0, -9.0, 30.0)] * 30),
    ("more returned than sold", [(40.0, 10.0, 0.0, 0.0)] * 30),
]


@pytest.mark.parametrize(("why", "history"), GARBAGE, ids=[why for why, _ in GARBAGE])
def test_rates_stay_probabilities_under_garbage_and_recover(
    why: str, history: list[tuple[float, float, float, float | None]]
) -> None:
    model, sold = ReturnRateModel(), Sale("shoes", "all", 3, 0.0)
    for returned, exposure, ln_price, ln_rival in history:
        odd = sold._replace(ln_price=ln_price, ln_rival=ln_rival)
        model.learn_lessons(columns([Lesson(odd, returned, exposure)]))
        snapshot = model.snapshot()
        assert 0.0 < snapshot.rate(sold) < 1.0, why
        assert all(v > 0.0 for _, _, v in model.state().logistic.weights), why
    rng = random.Random(9)
    for day in range(400):
        lessons = []
        for _ in range(5):
            returned = sum(rng.random() < 0.12 for _ in range(20))
            one = sold._replace(month=day // 31 % 12 + 1, ln_price=rng.gauss(0.0, 0.13))
            lessons.append(lesson(one, returned, 20.0 - returned, closed=True))
        model.learn_lessons(columns(lessons))
    rate = model.snapshot().rate(sold._replace(month=1))
    assert math.log(rate / (1 - rate)) == pytest.approx(math.log(0.12 / 0.88), abs=0.3), why
