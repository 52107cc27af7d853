"""What closed loops say of a candidate, scaled from a sample to the catalogue; and how they fit."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from models.backtest import demand_ratio
from models.backtest.closed_loop import Lived
from models.backtest.columns import Decisions, Epochs, Floats, Integers, Outcomes, Products
from models.backtest.fitted_shop import RECENT_DAYS, Fitted
from models.backtest.hindsight import by_product
from schemas.backtest import ClosedLoopValue, Estimate, FitCheck
from schemas.events import DAY_MS

LEVEL = 0.9
RIPE_DAYS = 30
NOTES = (
    "Simulated products stand alone; costs, season and calendar stand still.",
    "Both policies start from the state in which the tape ended, at the prices shown then.",
    "Demand, rivals and returns of each run are drawn from what the tape tells of them.",
)


def values(
    products: Products,
    eligible: Integers,
    sample: Integers,
    recent_profit: Floats,
    lived: Sequence[tuple[Lived, Lived]],
    fit: tuple[FitCheck, ...],
    *,
    days: int,
    seed: int,
) -> tuple[ClosedLoopValue, ...]:
    """Scale the sample's profits to all eligible products, by currency.

    The ratio estimator: the sample's difference times the catalogue's recent profit over the
    sample's. The interval has the spread of the runs and the error of the sample.

    Parameters
    ----------
    eligible, sample : product numbers, the sample out of the eligible
    recent_profit : [product] what was earned lately, minor units
    lived : each run under (baseline, candidate)

    Notes
    -----
    Source: W. G. Cochran (1977), Sampling techniques, 3rd edition, section 6.
    """
    found = []
    for currency in sorted({products.currencies[i] for i in sample.tolist()}):
        inside = np.array([products.currencies[i] == currency for i in sample.tolist()])
        whole = np.array([i for i in eligible.tolist() if products.currencies[i] == currency])
        chosen = sample[inside]
        weight = recent_profit[chosen]
        scale = _scale(recent_profit, whole, chosen)
        pairs = np.stack([[one.profit[inside] for one in pair] for pair in lived])
        totals = scale * pairs.sum(axis=2)  # [run, policy]
        mean = pairs.mean(axis=0)  # [policy, product]
        baseline, candidate = (
            _estimate(
                currency, totals[:, k], _sampling_sd(mean[k], weight, len(whole), len(chosen))
            )
            for k in (0, 1)
        )
        difference = totals[:, 1] - totals[:, 0]
        sampling = _sampling_sd(mean[1] - mean[0], weight, len(whole), len(chosen))
        found.append(
            ClosedLoopValue(
                currency=currency,
                runs=len(lived),
                days=days,
                products=len(chosen),
                seed=seed,
                baseline_per_day=baseline,
                candidate_per_day=candidate,
                difference_per_day=_estimate(currency, difference, sampling),
                share_better=float(np.mean(difference > 0.0)),
                fit=fit,
                notes=(
                    *NOTES,
                    f"{len(chosen)} of {len(whole)} products were simulated, and scaled by "
                    f"{scale:.2f}, by what was earned lately.",
                ),
            )
        )
    return tuple(found)


def _scale(recent_profit: Floats, whole: Integers, chosen: Integers) -> float:
    total, part = float(recent_profit[whole].sum()), float(recent_profit[chosen].sum())
    return total / part if total > 0.0 and part > 0.0 else len(whole) / len(chosen)


def _sampling_sd(values: Floats, weight: Floats, population: int, size: int) -> float:
    """Sd of the ratio estimator's total; 0 where all were taken."""
    if size >= population:
        return 0.0
    if size < 2:
        return float(population * np.abs(values).sum())
    total = float(weight.sum())
    ratio = float(values.sum()) / total if total > 0.0 else 0.0
    residual = values - (ratio * weight if total > 0.0 else values.mean())
    variance = float(np.sum(residual**2)) / (size - 1)
    return population * float(np.sqrt((1.0 - size / population) * variance / size))


def _estimate(currency: str, runs: Floats, sampling_sd: float) -> Estimate:
    spread = float(runs.std(ddof=1)) if len(runs) > 1 else 0.0
    sd, mean = float(np.hypot(spread, sampling_sd)), float(runs.mean())
    half = NormalDist().inv_cdf(0.5 * (1.0 + LEVEL)) * sd
    return Estimate(
        currency=currency, mean_minor=mean, sd_minor=sd, low_minor=mean - half,
        high_minor=mean + half, level=LEVEL,
    )  # fmt: skip


def recent_profit(outcomes: Outcomes, products: int, end_ms: int) -> Floats:
    """What each product [product] earned over the last weeks, before returns, minor units."""
    recent = outcomes.day >= (end_ms // DAY_MS) - RECENT_DAYS
    earned = outcomes.kept_share * outcomes.revenue_minor
    earned = earned - outcomes.units * outcomes.unit_cost_minor
    rows = recent & ~np.isnan(earned)
    return by_product(outcomes.product[rows], earned[rows], products)


def fit_checks(
    epochs: Epochs,
    outcomes: Outcomes,
    decisions: Decisions,
    sample: Integers,
    fitted: Fitted,
    lived: Sequence[Lived],
    end_ms: int,
) -> tuple[FitCheck, ...]:
    """Lay figures of the last weeks among those of the baseline's runs."""
    simulated = [_of_run(one, fitted) for one in lived]
    history = _of_history(epochs, outcomes, decisions, sample, end_ms)
    return tuple(
        FitCheck(
            name=name,
            history=float(value),
            simulated_mean=float(np.mean([one[name] for one in simulated])),
            simulated_sd=float(np.std([one[name] for one in simulated])),
        )
        for name, value in history.items()
        if np.isfinite(value) and all(np.isfinite(one[name]) for one in simulated)
    )


def _of_run(lived: Lived, fitted: Fitted) -> dict[str, float]:
    moves = np.abs(np.diff(lived.ln_price, axis=0))
    sold = float(lived.units.sum())
    ordered = fitted.stock_ordered
    return {
        **_daily(lived.units),
        "price_move": float(moves[moves > 0.0].mean()) if (moves > 0.0).any() else 0.0,
        "return_rate": float(np.sum(lived.units * lived.returned)) / sold if sold > 0.0 else np.nan,
        "sold_out_share": float(lived.out[:, ordered].mean()) if ordered.any() else np.nan,
    }


def _daily(units: Floats) -> dict[str, float]:
    """Rate, variance over mean, and share of days without a sale, of units [day, product]."""
    mean = units.mean(axis=0)
    sold = mean > 0.0
    ratio = units.var(axis=0)[sold] / mean[sold]
    return {
        "units_per_product_day": float(units.mean()),
        "variance_over_mean": float(np.average(ratio, weights=mean[sold])) if sold.any() else 0.0,
        "days_without_sale_share": float(np.mean(units <= 0.0)),
    }


def _of_history(
    epochs: Epochs, outcomes: Outcomes, decisions: Decisions, sample: Integers, end_ms: int
) -> dict[str, float]:
    place = np.full(int(max(sample.max(), outcomes.product.max(initial=0))) + 1, -1)
    place[sample] = np.arange(len(sample))
    last_day = -(-end_ms // DAY_MS)
    rows = (outcomes.day >= last_day - RECENT_DAYS) & (place[outcomes.product] >= 0)
    units = np.zeros((RECENT_DAYS, len(sample)))
    day = outcomes.day[rows] - (last_day - RECENT_DAYS)
    np.add.at(units, (day, place[outcomes.product[rows]]), outcomes.units[rows])
    ripe = (place[outcomes.product] >= 0) & (outcomes.day <= last_day - RIPE_DAYS)
    sold = float(outcomes.units[ripe].sum())
    change = np.abs(np.diff(np.log(epochs.price_minor)))
    same = (np.diff(epochs.product) == 0) & np.isin(epochs.product[1:], sample)
    moves = change[same & (change > 0.0) & (epochs.end_ms[1:] > end_ms - RECENT_DAYS * DAY_MS)]
    products = int(max(sample.max(), epochs.product.max(initial=0), decisions.product.max())) + 1
    out = demand_ratio.sold_out_share(epochs, decisions, products)[sample]
    back = float(outcomes.returned_units[ripe].sum())
    return {
        **_daily(units),
        "price_move": float(moves.mean()) if len(moves) else 0.0,
        "return_rate": back / sold if sold > 0.0 else np.nan,
        "sold_out_share": float(np.nanmean(out)) if np.isfinite(out).any() else np.nan,
    }
