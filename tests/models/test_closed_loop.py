"""Shops fitted to a tape: the real engine goes on in them from the state the tape ended in."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.backtest import closed_loop, fitted_shop
from models.backtest.closed_loop import Records, Task
from models.backtest.collect import Collector, Columns
from models.backtest.columns import Integers
from models.backtest.policy_value import compare
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas.events import DAY_MS
from streams.backtest import backtest_jobs
from streams.backtest.backtest_loop import LoopAsked, run_closed_loop
from tests.models.tapes import simulated

DAYS, LOOP_DAYS = 40, 8
DEARER = "[guards]\nmargin_floor_ratio = 0.45\n"


class Ended:
    """A tape that was folded: its columns and the engine's records at its end."""

    def __init__(self, kernel: Kernel) -> None:
        engine = PartitionEngine.new(0, kernel)
        collector = Collector(engine.state, lambda entry: True, is_baseline=True, observers=[])
        engine.state.watch = collector
        collector.take(engine.apply(simulated(kernel, 5, DAYS), with_state=False).outputs)
        self.columns: Columns = collector.columns(kernel)
        self.records: Records = list(engine.state.all_records())
        self.end_ms = int(self.columns.end_ms.max())


@pytest.fixture(scope="module")
def ended(kernel: Kernel) -> Ended:
    return Ended(kernel)


def task(ended: Ended, *, policy: str | None = None, run: int = 0, seed: int = 1) -> Task:
    columns, end_ms = ended.columns, ended.end_ms
    sample = sample_of(ended)
    history = columns.epochs, columns.outcomes
    fitted = fitted_shop.fit(columns.products, *history, columns.decisions, sample, end_ms)
    drawn = fitted_shop.draw(columns.products, *history, sample, 2, end_ms, seed)
    skus = frozenset(fitted.skus)
    return Task(
        states={0: closed_loop.sampled(ended.records, skus)},
        partition_of=dict.fromkeys(fitted.skus, 0),
        policy=policy,
        fitted=fitted,
        drawn=drawn,
        run=run,
        days=LOOP_DAYS,
        seed=seed,
        start_ms=closed_loop.midnight_after(end_ms),
    )


def sample_of(ended: Ended) -> Integers:
    columns = ended.columns
    return fitted_shop.eligible(columns.products, columns.epochs, columns.outcomes, ended.end_ms)[
        :6
    ]


def test_the_same_run_lives_the_same_life(ended: Ended, kernel: Kernel) -> None:
    once, again = (closed_loop.live(task(ended), kernel) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    other = closed_loop.live(task(ended, run=1), kernel)
    assert not np.array_equal(once.units, other.units)
    assert once.units.shape == (LOOP_DAYS, 6)
    assert float(once.units.sum()) > 0.0


def test_a_policy_changes_prices_and_meets_the_same_customers(ended: Ended, kernel: Kernel) -> None:
    ours = closed_loop.live(task(ended), kernel)
    theirs = closed_loop.live(task(ended, policy=DEARER), kernel)
    assert np.array_equal(ours.ln_price[0], theirs.ln_price[0]) or np.all(
        theirs.ln_price >= ours.ln_price - 1e-9
    )
    assert theirs.ln_price[-1].mean() > ours.ln_price[-1].mean() + 0.01
    same = ours.ln_price[0] == theirs.ln_price[0]
    assert np.array_equal(ours.units[0][same], theirs.units[0][same])


def test_drawn_shops_sell_about_what_the_history_sold(ended: Ended, kernel: Kernel) -> None:
    drawn = task(ended)
    rate = np.exp(drawn.drawn.level + drawn.drawn.elasticity * drawn.fitted.ln_shown)
    recent = ended.columns.epochs.end_ms > ended.end_ms - fitted_shop.RECENT_DAYS * DAY_MS
    sold = []
    for i in sample_of(ended).tolist():
        rows = recent & (ended.columns.epochs.product == i)
        epochs = ended.columns.epochs
        sold.append(epochs.orders[rows].sum() / epochs.exposure_days[rows].sum())
    assert np.log(rate.mean(axis=0).sum() / np.sum(sold)) == pytest.approx(0.0, abs=0.5)


def test_the_driver_scales_a_sample_and_shows_the_fit(
    ended: Ended, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest_jobs, "_kernel", kernel)
    asked = LoopAsked(runs=2, days=LOOP_DAYS, products=4, seed=7)
    with ThreadPoolExecutor(1) as pool:
        found = run_closed_loop(
            asked, ended.columns, {0: ended.records}, (None, [None, DEARER]), pool
        )
    same, dearer = found
    (value,) = same
    assert (value.runs, value.days, value.products, value.currency) == (2, LOOP_DAYS, 4, "EUR")
    assert value.difference_per_day.mean_minor == value.difference_per_day.sd_minor == 0.0
    assert value.share_better == 0.0
    assert {check.name for check in value.fit} >= {
        "units_per_product_day", "variance_over_mean", "days_without_sale_share", "price_move",
    }  # fmt: skip
    assert dearer[0].difference_per_day.mean_minor != 0.0
    assert dearer[0].difference_per_day.sd_minor > 0.0  # half of the products were not simulated
    assert any("4 of " in note for note in value.notes)


def test_the_columns_of_a_real_fold_give_a_value(ended: Ended) -> None:
    """The estimator reads what the driver's collector writes."""
    columns = ended.columns
    found = compare(
        columns.products, columns.decisions, columns.decisions, columns.epochs, columns.outcomes,
        from_ms=ended.end_ms - 20 * DAY_MS, to_ms=ended.end_ms, seed=1,
    )  # fmt: skip
    (value,) = found
    assert value.currency == "EUR"
    assert value.difference.mean_minor == pytest.approx(0.0, abs=1e-6)
    raised = columns.decisions._replace(price_minor=np.rint(columns.decisions.price_minor * 1.1))
    (value,) = compare(
        columns.products, columns.decisions, raised, columns.epochs, columns.outcomes,
        from_ms=ended.end_ms - 20 * DAY_MS, to_ms=ended.end_ms, seed=1,
    )  # fmt: skip
    assert value.difference.sd_minor > 0.0
    assert value.calibration is not None
    assert value.calibration == pytest.approx(1.0, abs=0.5)
