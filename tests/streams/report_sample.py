"""A made-up backtest document with everything in it that a report can draw."""

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np

from schemas.backtest import (
    BacktestReport,
    BreakerMove,
    Calibration,
    CalibrationBin,
    CategoryValue,
    ClosedLoopValue,
    Comparison,
    Count,
    DaySeries,
    Difference,
    Differences,
    Estimate,
    ExplainedDay,
    FitCheck,
    LedgerLine,
    ModelValue,
    OffPolicyValue,
    PolicyRun,
    PricePoint,
    ProductSeries,
    Run,
    SwitchbackCell,
    SwitchbackDesign,
)

BASELINE, BOLD, CAREFUL = "as it was", "bolder", "careful"
NAMES = (BASELINE, BOLD, CAREFUL)
FIRST = date(2010, 12, 1)
CURRENCY = "GBP"


def estimate(mean_minor: float, sd_minor: float) -> Estimate:
    """A normal estimate with its 90 % interval."""
    return Estimate(
        currency=CURRENCY,
        mean_minor=mean_minor,
        sd_minor=sd_minor,
        low_minor=mean_minor - 1.645 * sd_minor,
        high_minor=mean_minor + 1.645 * sd_minor,
        level=0.9,
    )


def sample_report(
    days: int = 60, products: int = 4, seed: int = 1, mark: str = ""
) -> BacktestReport:
    """The document; ``mark`` is added to whatever comes from data, to see that it is escaped."""
    rng = np.random.default_rng(seed)
    dates = [(FIRST + timedelta(days=at)).isoformat() for at in range(days)]
    return BacktestReport(
        run=Run(
            source="online-retail.jsonl" + mark,
            reconstruction=False,
            first_event=f"{dates[0]}T08:26:00.000Z",
            last_event=f"{dates[-1]}T12:50:00.000Z",
            records=1_204_311,
            partitions=8,
            tape_sha256="5b" * 32,
            engine="c0ffee" * 10,
            version="0.1.0",
            seed=7,
            baseline=BASELINE,
            seconds=412.7,
            assumptions=(
                "What buyers saw is held as it was, under every policy.",
                "Unit costs are not in the data: 0.6 of the first price" + mark,
            ),
        ),
        policies=tuple(map(_policy, NAMES)),
        comparisons=tuple(_comparison(name, mark) for name in NAMES[1:]),
        days=tuple(_days(name, dates, rng) for name in NAMES),
        products=tuple(_product(at, dates, rng, mark) for at in range(products)),
        breakers=tuple(_moves(dates, mark)),
        calibration=_calibration(rng),
        ledger=tuple(
            LedgerLine(policy=name, currency=CURRENCY, rule=rule, products=40 + 7 * at,
                       cost_per_day_minor=900.0 / (1 + at) * scale)
            for at, rule in enumerate(("margin floor", "step limit", "rounding", "exploration"))
            for name, scale in zip(NAMES, (1.0, 0.4, 1.3), strict=True)
        ),
        explained=tuple(_explained(name, day, rng) for name in NAMES for day in dates),
    )  # fmt: skip


def _policy(name: str) -> PolicyRun:
    return PolicyRun(
        name=name,
        policy_sha256="ab" * 32,
        prior_sha256="cd" * 32,
        edits=() if name == BASELINE else ("price_change.step_ratio_max 0.05 → 0.1",),
        products=3_684,
        products_priced=3_402,
        decisions=184_210,
        published=120_411,
        held=61_020,
        reverted=2_779,
        price_changes=41_337,
        price_changes_per_product_day=0.032,
        breaker_trips=211,
        dead_letters=14,
        decisions_sha256="1e" * 32,
        state_sha256="2f" * 32,
    )


def _comparison(name: str, mark: str) -> Comparison:
    good = name == BOLD
    worst = Difference(
        sku="85123A" + mark,
        category="holder" + mark,
        currency=CURRENCY,
        from_time="2010-12-14T00:00:00.000Z",
        to_time="2011-01-20T00:00:00.000Z",
        tape="3@10422",
        baseline_minor=295,
        candidate_minor=325,
        at_stake_minor=41_300.0 if good else -9_100.0,
        reasons=("guard: step_limit", "breaker: scaled delta" + mark),
    )
    value = estimate(412_000.0 if good else -8_000.0, 160_000.0)
    categories = tuple(
        CategoryValue(category=f"category {at}{mark}", products=100 + at,
                      difference=estimate(value.mean_minor / (at + 2), 60_000.0))
        for at in range(8)
    )  # fmt: skip
    return Comparison(
        candidate=name,
        differences=Differences(
            product_days=1_021_333.0,
            same_share=0.62,
            dearer_share=0.25 if good else 0.1,
            cheaper_share=0.13 if good else 0.28,
            mean_ln_ratio=0.0123 if good else -0.0045,
            products_differing=2_210,
            first_divergence=worst,
            largest=(worst, worst),
            guards=(Count(name="step limit", baseline=1_200, candidate=410),
                    Count(name="margin floor", baseline=90, candidate=88)),
            breakers=(Count(name="OPEN", baseline=211, candidate=302),),
            holds=(Count(name="no-change band", baseline=44_000, candidate=39_500),),
        ),
        model=(
            ModelValue(
                currency=CURRENCY,
                baseline=estimate(9_812_000.0, 510_000.0),
                candidate=estimate(9_812_000.0 + value.mean_minor, 520_000.0),
                difference=value,
                parameter_sd_minor=160_000.0,
                noise_sd_minor=90_000.0,
                realised_low_minor=110_000.0,
                realised_high_minor=714_000.0,
                calibration=0.97 if good else 0.71,
                calibration_sd=0.04,
                categories=categories,
                notes=("Products without a decision are left out." + mark,),
            ),
        ),
        off_policy=(_off_policy(good, mark),),
        closed_loop=(_closed_loop(good),),
        switchback=(_switchback(good, mark),),
    )  # fmt: skip


def _off_policy(good: bool, mark: str) -> OffPolicyValue:
    return OffPolicyValue(
        currency=CURRENCY,
        estimator="doubly robust",
        estimate=estimate(210_000.0, 190_000.0) if good else None,
        decisions=184_210,
        explored=9_120,
        supported_share=0.31 if good else 0.004,
        effective_sample_size=2_913.4 if good else 11.2,
        effective_sample_size_min=200.0,
        refused=None if good else "the effective sample size is 11, below 200" + mark,
    )


def _closed_loop(good: bool) -> ClosedLoopValue:
    return ClosedLoopValue(
        currency=CURRENCY,
        runs=40,
        days=90,
        products=200,
        seed=7,
        baseline_per_day=estimate(26_000.0, 1_400.0),
        candidate_per_day=estimate(27_100.0 if good else 25_950.0, 1_450.0),
        difference_per_day=estimate(1_100.0 if good else -50.0, 420.0),
        share_better=0.95 if good else 0.45,
        fit=(
            FitCheck(name="orders a day", history=412.0, simulated_mean=405.2, simulated_sd=22.0),
            FitCheck(name="return rate", history=0.021, simulated_mean=0.03, simulated_sd=0.003),
            FitCheck(name="share of days without a sale", history=0.81, simulated_mean=0.8,
                     simulated_sd=0.02),
        ),
    )  # fmt: skip


def _switchback(good: bool, mark: str) -> SwitchbackDesign:
    schedule = tuple(
        SwitchbackCell(unit=f"cluster {unit}{mark}", block=block,
                       policy=(BASELINE, BOLD)[(unit + block) % 2])
        for unit in range(12) for block in range(8)
    )  # fmt: skip
    return SwitchbackDesign(
        currency=CURRENCY,
        unit_kind="families of one cluster",
        units=12,
        block_days=7.0,
        washout_days=1.0,
        blocks=8,
        days=56.0,
        days_max=120.0,
        alpha=0.05,
        power=0.8,
        effect_minor_per_day=1_100.0,
        detectable_minor_per_day=940.0,
        sd_minor_per_day=2_300.0,
        intraclass_correlation=0.12,
        schedule=schedule if good else (),
        refused=None if good else "the difference would need 900 days, more than 120",
    )


def _days(name: str, dates: list[str], rng: np.random.Generator) -> DaySeries:
    n = len(dates)
    wave = 26_000.0 + 3_000.0 * np.sin(np.arange(n) / 9.0) + rng.normal(0, 300, n).cumsum()
    profit: list[float | None] = wave.tolist()
    profit[0] = None
    return DaySeries(
        policy=name,
        currency=CURRENCY,
        days=tuple(dates),
        price_changes=tuple(rng.poisson(110, n).tolist()),
        decisions=tuple(rng.poisson(480, n).tolist()),
        held=tuple(rng.poisson(160, n).tolist()),
        expected_profit_minor=tuple(profit),
        margin_ratio=tuple((0.38 + rng.normal(0, 0.004, n).cumsum() / 5).tolist()),
        delta_minor=tuple((2_000.0 + rng.normal(0, 200, n).cumsum()).tolist()),
        gamma_minor=tuple((-80_000.0 + rng.normal(0, 900, n).cumsum()).tolist()),
        vega_minor=tuple((-1_500.0 + rng.normal(0, 30, n).cumsum()).tolist()),
    )


def _path(dates: list[str], start: float, rng: np.random.Generator) -> tuple[PricePoint, ...]:
    values = start * np.exp(rng.normal(0, 0.02, len(dates)).cumsum())
    return tuple(
        PricePoint(at=f"{day}T00:00:00.000Z", minor=round(value))
        for at, (day, value) in enumerate(zip(dates, values.tolist(), strict=True))
        if at % 5 == 0
    )


def _product(at: int, dates: list[str], rng: np.random.Generator, mark: str) -> ProductSeries:
    start = 295.0 + 40.0 * at
    rival = list(_path(dates, start * 1.05, rng))
    rival[len(rival) // 2] = PricePoint(at=rival[len(rival) // 2].at, minor=None)
    return ProductSeries(
        sku=f"8512{at}A{mark}",
        category=f"holder{mark}",
        currency=CURRENCY,
        at_stake_minor=41_300.0 / (at + 1),
        prices={name: _path(dates, start, rng) for name in NAMES},
        shown=_path(dates, start, rng),
        unit_cost=(PricePoint(at=f"{dates[0]}T00:00:00.000Z", minor=0.6 * start),),
        rival=tuple(rival),
        elasticity=tuple(
            (day, -1.8 + 0.01 * number, 0.5 / (1 + number / 10)) for number, day in
            enumerate(dates[::7])
        ),
    )  # fmt: skip


def _moves(dates: list[str], mark: str) -> Iterator[BreakerMove]:
    states = ("OPEN", "HALF_OPEN", "CLOSED")
    for at, day in enumerate(dates[3::4]):
        yield BreakerMove(
            policy=NAMES[at % 3],
            at=f"{day}T09:00:00.000Z",
            scope="product" if at % 5 else "catalogue",
            name=f"8512{at % 7}A{mark}" if at % 5 else "",
            state=states[at % 3],
            reason="scaled delta beyond its threshold" + mark,
        )


def _calibration(rng: np.random.Generator) -> tuple[Calibration, ...]:
    found = []
    for name, scale in (("demand", 4.0), ("returns", 0.05)):
        bins = []
        for at in range(1, 11):
            forecast = scale * at / 10.0
            observed = forecast * float(np.exp(rng.normal(0, 0.1)))
            bins.append(
                CalibrationBin(
                    forecast=forecast,
                    observed=observed,
                    observed_low=observed * 0.9,
                    observed_high=observed * 1.1,
                    weight=2_000.0 / at,
                )
            )
        found.append(Calibration(name=name, bins=tuple(bins)))
    return tuple(found)


def _explained(name: str, day: str, rng: np.random.Generator) -> ExplainedDay:
    terms = ("delta", "gamma", "vega", "rho", "level", "elasticity", "cost", "rivals", "policy")
    values = rng.normal(0, 2_000, len(terms)).tolist()
    return ExplainedDay(
        policy=name,
        currency=CURRENCY,
        day=day,
        terms=dict(zip(terms, values, strict=True)),
        residual_minor=float(rng.normal(0, 200)),
    )
