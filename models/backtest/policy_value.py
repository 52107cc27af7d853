"""Model-based profit: what a candidate's prices would have earned more than the baseline's.

Each policy is judged in hindsight, by one belief that has seen the whole tape
(`models.backtest.hindsight`), and from what was sold at the shown price: another price sells that
times a ratio (`models.backtest.demand_ratio`), so that whatever moved demand beside the price is
in both. Draws carry all that is unknown of demand and returns through to the profit; what is
common to products stays common. docs/backtest-value.md has the equations and the measured coverage.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from models.backtest import demand_ratio, hindsight, return_fit
from models.backtest.columns import Bools, Decisions, Epochs, Floats, Integers, Outcomes, Products
from models.backtest.pieces import Pieces, cut
from models.demand.demand import DEFAULT_SETTINGS
from schemas.backtest import CategoryValue, Estimate, ModelValue
from schemas.events import DAY_MS

DRAWS = 500
LEVEL = 0.9
# By how much the difference's draws are spread around their mean: what the equation leaves out.
# Set on simulated shops (seeds from 101 on) and reported on others: docs/backtest-value.md.
MISFIT = 1.3
BLOCK_CELLS = 2_000_000  # draws times pieces held at once
SIZE_PRIOR_LINES = 5.0  # order lines that one unit a line is worth
CALIBRATION_SDS = 2.0
CALIBRATION_OFF = 0.1


class _Sums(NamedTuple):
    """Draws of profit [draw, product] in minor units, and variances [product]."""

    baseline: Floats
    candidate: Floats
    level_variance: Floats
    noise_variance: Floats


def compare(
    products: Products,
    baseline: Decisions,
    candidate: Decisions,
    epochs: Epochs,
    outcomes: Outcomes,
    *,
    from_ms: int,
    to_ms: int,
    seed: int,
) -> tuple[ModelValue, ...]:
    """Profit of both price paths from ``from_ms`` to ``to_ms``, by currency in alphabetical order.

    Profit is the contribution margin after returns, ``(a P - C)(1 - R) - c_r R`` a unit. Products
    without a cost, and those without an epoch, are left out and counted in the notes.

    Parameters
    ----------
    epochs, outcomes : of the whole tape, whatever the range: the belief reads all of it
    seed : of the draws; the same one gives the same figures
    """
    rng = np.random.default_rng([seed, 1])
    count = len(products.skus)
    pieces = cut(epochs, baseline, candidate, outcomes, from_ms, to_ms)
    costed = ~np.isnan(pieces.unit_cost_minor + pieces.kept_share + pieces.handling_minor)
    skipped = np.setdiff1d(pieces.product[~costed], pieces.product[costed])
    pieces = pieces.take(np.flatnonzero(costed))
    found = hindsight.evidence(epochs, count)
    draws = _draw(products, found, epochs, 0.5 * (from_ms + to_ms), rng)
    reference = _last_reference(epochs, count)
    returns = return_fit.draw_returns(outcomes, reference, DRAWS, rng)
    sums = _sums(pieces, baseline, candidate, epochs, reference, draws, returns)
    noise = rng.standard_normal((DRAWS, count)) * np.sqrt(sums.level_variance)
    difference = sums.candidate - sums.baseline
    middle = difference.mean(axis=0)
    difference = middle + MISFIT * (difference - middle + noise)
    covered = np.isin(np.arange(count), pieces.product)
    notes = _notes(found, len(skipped), pieces, epochs, outcomes, draws)
    currencies = np.array(products.currencies)
    return tuple(
        _value(
            str(currency), products, np.flatnonzero(covered & (currencies == currency)), sums,
            difference, _calibration(pieces, epochs, currencies == currency, returns, reference),
            notes,
        )
        for currency in sorted(set(currencies[covered].tolist()))
    )  # fmt: skip


def _draw(
    products: Products, found: hindsight.Evidence, epochs: Epochs, centre_ms: float,
    rng: np.random.Generator,
) -> demand_ratio.Draw:  # fmt: skip
    """Draws of all that demand's ratio depends on; the elasticity walks to the range's centre."""
    count = len(products.skus)
    names = {name: number for number, name in enumerate(sorted(set(products.categories)))}
    category = np.array([names[name] for name in products.categories], np.int64)
    belief = hindsight.draw(found, category, DRAWS, rng)
    away_days = np.where(found.centre_ms > 0.0, np.abs(centre_ms - found.centre_ms) / DAY_MS, 0.0)
    walk = np.sqrt(DEFAULT_SETTINGS.elasticity_walk_per_day * away_days)
    common = demand_ratio.CURVE_COMMON_SHARE
    curve = np.sqrt(common) * rng.standard_normal((DRAWS, 1))
    curve = curve + np.sqrt(1.0 - common) * rng.standard_normal((DRAWS, count))
    mean, sd = demand_ratio.follow_rate(epochs)
    return demand_ratio.Draw(
        elasticity=belief.elasticity + walk * rng.standard_normal((DRAWS, count)),
        rival=belief.rival,
        curve=demand_ratio.CURVE_SD * curve,
        omega=np.maximum(1.0 + demand_ratio.OMEGA_RELATIVE_SD * rng.standard_normal(DRAWS), 0.0),
        follow=np.clip(mean + sd * rng.standard_normal(DRAWS), -1.0, 1.0),
        reorder_cover=np.maximum(
            demand_ratio.REORDER_COVER + demand_ratio.REORDER_COVER_SD * rng.standard_normal(DRAWS),
            demand_ratio.REORDER_COVER_MIN,
        ),
    )


def _sums(
    pieces: Pieces, baseline: Decisions, candidate: Decisions, epochs: Epochs, reference: Floats,
    draws: demand_ratio.Draw, returns: return_fit.ReturnDraws,
) -> _Sums:  # fmt: skip
    """Add up both policies' profits by product."""
    count = draws.elasticity.shape[1]
    profits = np.zeros((DRAWS, count)), np.zeros((DRAWS, count))
    total = _Sums(*profits, np.zeros(count), np.zeros(count))
    if not len(pieces.product):
        return total
    charged = demand_ratio.charged_range(epochs, count)
    out_share = demand_ratio.sold_out_share(epochs, baseline, count)
    paths = [
        (price, demand_ratio.circumstances(pieces, epochs, policy, price, row, charged, out_share))
        for policy, price, row in (
            (baseline, pieces.baseline_minor, pieces.baseline_row),
            (candidate, pieces.candidate_minor, pieces.candidate_row),
        )
    ]
    size = _units_per_order(epochs, count)
    gains = np.zeros(len(pieces.product))
    block = max(BLOCK_CELLS // DRAWS, 1)
    for start in range(0, len(pieces.product), block):
        rows = slice(start, start + block)
        here = Pieces._make(column[rows] for column in pieces)
        product, sold = here.product, epochs.units[here.epoch] * here.share
        starts = np.flatnonzero(np.append(True, product[1:] != product[:-1]))
        mean_profit = []
        for kept, (price, found) in zip((total.baseline, total.candidate), paths, strict=True):
            ratio = demand_ratio.sales_ratio(demand_ratio.take(found, rows), product, draws)
            margin, square = _margin(here, price[rows], reference, returns)
            profit = ratio * margin
            kept[:, product[starts]] += np.add.reduceat(sold * profit, starts, axis=1)
            mean_profit.append(profit.mean(axis=0))
            single = (2.0 * size[product] - 2.0) * (margin**2).mean(axis=0) + square
            np.add.at(total.noise_variance, product, sold * ratio.mean(axis=0) * single)
        gains[rows] = here.share * (mean_profit[1] - mean_profit[0])
    by_epoch = hindsight.by_product(pieces.epoch, gains, len(epochs.product))
    units_variance = epochs.units * (2.0 * size[epochs.product] - 1.0)
    level = hindsight.by_product(epochs.product, units_variance * by_epoch**2, count)
    return total._replace(level_variance=level)


def _margin(
    pieces: Pieces, price_minor: Floats, reference: Floats, returns: return_fit.ReturnDraws
) -> tuple[Floats, Floats]:
    """Margin of a unit after returns [draw, piece], and its mean square over returns [piece]."""
    product = pieces.product
    x = np.log(price_minor / reference[product])
    score = returns.level[:, product] + returns.slope[:, product] * x
    rate = 1.0 / (1.0 + np.exp(-np.clip(score, -30.0, 30.0)))
    earned = pieces.kept_share * price_minor - pieces.unit_cost_minor
    margin = earned * (1.0 - rate) - pieces.handling_minor * rate
    square = earned**2 * (1.0 - rate) + pieces.handling_minor**2 * rate
    return np.asarray(margin), np.asarray(square.mean(axis=0))


def _units_per_order(epochs: Epochs, count: int) -> Floats:
    """Units of an order line [product], drawn to one while few were seen."""
    units = hindsight.by_product(epochs.product, epochs.units, count)
    orders = hindsight.by_product(epochs.product, epochs.orders, count)
    return np.maximum((SIZE_PRIOR_LINES + units) / (SIZE_PRIOR_LINES + orders), 1.0)


def _last_reference(epochs: Epochs, count: int) -> Floats:
    reference = np.full(count, np.nan)
    reference[epochs.product] = epochs.reference_minor  # in time order: the last one stays
    return reference


# -- the result


def _value(
    currency: str, products: Products, index: Integers, sums: _Sums, difference: Floats,
    calibration: tuple[float | None, float | None], notes: tuple[str, ...],
) -> ModelValue:  # fmt: skip
    """One currency's figures; ``index`` are its products [k]."""
    total = difference[:, index].sum(axis=1)
    noise = float(np.sqrt(sums.noise_variance[index].sum()))
    parameter = float(total.std())
    half = -_quantile(0.5 * (1.0 - LEVEL)) * float(np.hypot(parameter, noise))
    kinds = np.array(products.categories)[index]
    return ModelValue(
        currency=currency,
        baseline=estimate(currency, sums.baseline[:, index].sum(axis=1)),
        candidate=estimate(currency, sums.candidate[:, index].sum(axis=1)),
        difference=estimate(currency, total),
        parameter_sd_minor=parameter,
        noise_sd_minor=noise,
        realised_low_minor=float(total.mean()) - half,
        realised_high_minor=float(total.mean()) + half,
        calibration=calibration[0],
        calibration_sd=calibration[1],
        categories=tuple(
            CategoryValue(
                category=kind,
                products=int(np.sum(kinds == kind)),
                difference=estimate(currency, difference[:, index[kinds == kind]].sum(axis=1)),
            )
            for kind in sorted(set(kinds.tolist()))
        ),
        notes=notes + _calibration_note(*calibration),
    )


def estimate(currency: str, draws: Floats) -> Estimate:
    """Mean, sd and central 90 % interval of draws [draw]."""
    low, high = np.quantile(draws, [0.5 * (1.0 - LEVEL), 0.5 * (1.0 + LEVEL)])
    return Estimate(
        currency=currency,
        mean_minor=float(draws.mean()),
        sd_minor=float(draws.std()),
        low_minor=float(low),
        high_minor=float(high),
        level=LEVEL,
    )


def _calibration(
    pieces: Pieces, epochs: Epochs, chosen: Bools, returns: return_fit.ReturnDraws,
    reference: Floats,
) -> tuple[float | None, float | None]:  # fmt: skip
    """Realised over expected profit at the shown prices, and its sd from product to product.

    Expected is what the deciding belief forecast of each epoch before it.
    """
    count = len(reference)
    rows = np.flatnonzero(chosen[pieces.product] & ~np.isnan(epochs.mean_orders[pieces.epoch]))
    here = pieces.take(rows)
    mean = return_fit.ReturnDraws(*(column.mean(axis=0, keepdims=True) for column in returns))
    margin = _margin(here, here.shown_minor, reference, mean)[0][0] * here.share
    lines = epochs.mean_orders[here.epoch] * _units_per_order(epochs, count)[here.product]
    expected = hindsight.by_product(here.product, lines * margin, count)
    realised = hindsight.by_product(here.product, epochs.units[here.epoch] * margin, count)
    total = float(expected.sum())
    if total <= 0.0:
        return None, None
    ratio = float(realised.sum()) / total
    return ratio, float(np.sqrt(np.sum((realised - ratio * expected) ** 2))) / total


def _calibration_note(ratio: float | None, sd: float | None) -> tuple[str, ...]:
    if ratio is None or sd is None:
        return ("No profit was forecast at the shown prices, so calibration is not known.",)
    if abs(ratio - 1.0) <= max(CALIBRATION_SDS * sd, CALIBRATION_OFF):
        return ()
    return (
        f"The shop earned {ratio:.2f} (sd {sd:.2f}) of what was forecast at its own prices. The "
        "estimate starts from what was sold, so the level of the forecast is not in it.",
    )


def _notes(
    found: hindsight.Evidence, skipped: int, pieces: Pieces, epochs: Epochs, outcomes: Outcomes,
    draws: demand_ratio.Draw,
) -> tuple[str, ...]:  # fmt: skip
    """What a reader must know of how the figures came about."""
    notes = [
        "Both policies are judged by one belief that has seen the whole tape, not by those that "
        "decided.",
        f"Rivals are taken to follow {draws.follow.mean():.2f} (sd {draws.follow.std():.2f}) of a "
        "move of ours.",
    ]
    sold, seen = float(outcomes.units.sum()), float(epochs.units.sum())
    if sold > 0.0 and seen < 0.95 * sold:
        notes.append(f"{1.0 - seen / sold:.0%} of the units sold lie in no closed epoch: left out.")
    if skipped:
        notes.append(f"{skipped} products without a known cost are left out.")
    if found.pearson > 1.0:
        notes.append(
            f"Orders scatter {found.pearson:.2f} times as widely as the demand model says: what "
            "they tell of elasticity counts that much less."
        )
    return tuple(notes)


def _quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)
