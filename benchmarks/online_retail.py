"""Online Retail: one-step-ahead forecasts of weekly demand, elasticities, and the price-list trap.

    python -m benchmarks.online_retail PATH

PATH is the data set in any form that `pricemaker ingest online-retail` reads. Weeks 1 to 13 choose
every free constant (of the model and of the baselines alike), weeks 14 to 52 are scored. The data
is one real year, so there is no seed; the standard error is over weeks. The result goes to stdout
and to results/online_retail.json, and a report with pictures to results/online_retail.html.
"""

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import retail_report
from benchmarks.harness import RESULTS, machine, write_result
from benchmarks.retail_forecasts import (
    POISSON,
    Floats,
    Forecasts,
    Table,
    average_mean,
    log_probability,
    log_score,
    model_forecasts,
    naive_mean,
    static_mean,
    table,
)
from models.demand.demand import DEFAULT_SETTINGS, DemandSettings
from schemas.events import DAY_MS
from streams.adapters.online_retail import Assumptions, Converter
from streams.adapters.open_rows import open_rows
from streams.adapters.rows import ORDER, Row
from streams.adapters.weekly import WEEK_DAYS, ProductWeeks, weekly_demand

FIRST_WEEK = 14  # scored; the weeks before it choose constants
REFRESH_WEEKS = 4
DISPERSIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
MODEL_DISPERSIONS = (0.1, 0.2)
LEVEL_WALKS = (2e-3, 5e-3, 1e-2, 2e-2)
FLOORS_LINES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
SHOWN_SKU = "85123A"
INFORMED_SHARE = 0.7  # of the prior's sd: an elasticity is known from below it on

Weekly = Counter[tuple[str, int]]


class Paid:
    """What was paid: units, money and lines by product and week, and the lines of one product."""

    def __init__(self) -> None:
        self.units: Weekly = Counter()
        self.money_minor: Weekly = Counter()
        self.lines: Weekly = Counter()
        self.shown: list[tuple[int, int, int, bool]] = []  # time ms, price, quantity, account
        self.first_day = -1

    def listen(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Pass rows on."""
        for row in rows:
            day = row.at_ms // DAY_MS
            if self.first_day < 0:
                self.first_day = day
            if row.kind == ORDER and row.unit_price_minor > 0:
                key = row.sku, (day - self.first_day) // WEEK_DAYS
                self.units[key] += row.quantity
                self.money_minor[key] += row.quantity * row.unit_price_minor
                self.lines[key] += 1
                if row.sku == SHOWN_SKU:
                    paid = row.at_ms, row.unit_price_minor, row.quantity, row.is_account
                    self.shown.append(paid)
            yield row


def within_slope(rows: list[tuple[str, float, float]]) -> tuple[float, float]:
    """Slope of y on x with an intercept for each product, and its s.e. by clusters of products."""
    sums: dict[str, list[tuple[float, float]]] = {}
    for sku, x, y in rows:
        sums.setdefault(sku, []).append((x, y))
    centred = []
    for pairs in sums.values():
        block = np.array(pairs)
        centred.append(block - block.mean(axis=0))
    spread = sum(float(block[:, 0] @ block[:, 0]) for block in centred)
    slope = sum(float(block[:, 0] @ block[:, 1]) for block in centred) / spread
    errors = [float(block[:, 0] @ (block[:, 1] - slope * block[:, 0])) for block in centred]
    return slope, math.sqrt(sum(error * error for error in errors)) / spread


def trap(products: dict[str, ProductWeeks], paid: Paid, learned: Forecasts) -> dict[str, Any]:
    """The elasticity that each way of reading the same year gives."""
    units, lines, ours = [], [], []
    for sku, product in products.items():
        for week in product.weeks:
            key = sku, week.week
            if not paid.lines[key] or week.lines < 1:
                continue
            price = math.log(paid.money_minor[key] / paid.units[key])
            units.append((sku, price, math.log(paid.units[key])))
            lines.append((sku, price, math.log(paid.lines[key])))
            ours.append((sku, math.log(week.price_minor), math.log(week.lines)))
    rows = {
        "units_on_mean_price_paid": within_slope(units),
        "lines_on_mean_price_paid": within_slope(lines),
        "lines_on_adapter_price": within_slope(ours),
    }
    result: dict[str, Any] = {
        name: {"elasticity": round(slope, 2), "se": round(se, 2)}
        for name, (slope, se) in rows.items()
    }
    document = learned.document
    result["demand_model"] = {
        "elasticity": round(document.mean[1], 2),
        "sd_between_products": round(math.sqrt(document.cov[4]), 2),
    }
    return result


def chosen(
    rows: Table, mean_of: Callable[[Table, float], Floats], dispersions: tuple[float, ...]
) -> tuple[Floats, dict[str, float]]:
    """A baseline's scores, with the constants that are best over the weeks before the scored."""
    warm = rows.week < FIRST_WEEK
    tried = {
        (constant, dispersion): log_probability(rows.lines, mean_of(rows, constant), dispersion)
        for constant, dispersion in itertools.product(FLOORS_LINES, dispersions)
    }
    best = max(tried, key=lambda key: float(tried[key][warm].mean()))
    return tried[best], {"lines": best[0], "dispersion": best[1]}


def chosen_settings(products: dict[str, ProductWeeks], rows: Table) -> DemandSettings:
    """The model's dispersion and walk that are best over the weeks before the scored."""
    warm = rows.week < FIRST_WEEK
    early = {
        sku: product._replace(weeks=tuple(w for w in product.weeks if w.week < FIRST_WEEK))
        for sku, product in products.items()
        if product.weeks[0].week < FIRST_WEEK
    }
    scores = {}
    for dispersion, walk in itertools.product(MODEL_DISPERSIONS, LEVEL_WALKS):
        settings = DEFAULT_SETTINGS._replace(dispersion=dispersion, level_walk_per_day=walk)
        forecasts = model_forecasts(early, settings)
        scores[settings] = float(log_score(rows.lines[warm], forecasts, dispersion).mean())
    return max(scores, key=scores.__getitem__)


def all_scores(
    products: dict[str, ProductWeeks], rows: Table
) -> tuple[dict[str, Floats], dict[str, Any], Forecasts]:
    """Log scores by forecaster [row], the constants chosen, and the learned model."""
    scores, constants = {}, {}
    named: tuple[tuple[str, Callable[[Table, float], Floats], tuple[float, ...]], ...] = (
        ("static_poisson", static_mean, (POISSON,)),
        ("static_negative_binomial", static_mean, DISPERSIONS),
        ("seasonal_naive_poisson", naive_mean, (POISSON,)),
        ("seasonal_naive", naive_mean, DISPERSIONS),
        ("average_of_4_weeks", average_mean, DISPERSIONS),
    )
    for name, mean_of, dispersions in named:
        scores[name], constants[name] = chosen(rows, mean_of, dispersions)
    settings = chosen_settings(products, rows)
    constants["model"] = {
        "dispersion": settings.dispersion,
        "level_walk_per_day": settings.level_walk_per_day,
    }
    runs: tuple[tuple[str, DemandSettings, int | None, bool], ...] = (
        ("model_default_settings", DEFAULT_SETTINGS, None, True),
        ("model_fixed_prior", settings, None, True),
        ("model_without_price", settings, REFRESH_WEEKS, False),
        ("model", settings, REFRESH_WEEKS, True),
    )
    for name, one, refresh_weeks, uses_price in runs:
        forecasts = model_forecasts(
            products, one, refresh_weeks=refresh_weeks, uses_price=uses_price
        )
        scores[name] = log_score(rows.lines, forecasts, one.dispersion)
    return scores, constants, forecasts


def summary(rows: Table, scores: dict[str, Floats]) -> dict[str, Any]:
    """Mean log score a product-week, all and after price moves, and the gain of the model."""
    late = rows.week >= FIRST_WEEK
    weeks = np.unique(rows.week[late])
    result = {}
    for name, score in scores.items():
        gain = scores["model"] - score
        by_week = np.array([gain[rows.week == week].mean() for week in weeks])
        result[name] = {
            "log_score": round(float(score[late].mean()), 4),
            "after_a_price_move": round(float(score[late & rows.moved].mean()), 4),
            "model_gains": round(float(gain[late].mean()), 4),
            "model_gains_se": round(float(by_week.std(ddof=1)) / math.sqrt(len(by_week)), 4),
            "weeks_model_is_better": int((by_week > 0.0).sum()),
        }
    return result


def measure(path: Path) -> dict[str, Any]:
    """Read the year, score it, and write the report."""
    converter, paid = Converter(Assumptions()), Paid()
    records = (
        record
        for row in paid.listen(open_rows(path, lambda _: None))
        for record in converter.convert(row)
    )
    products = weekly_demand(records)
    report = converter.finish()
    rows = table(products)
    scores, constants, learned = all_scores(products, rows)
    late = rows.week >= FIRST_WEEK
    known_below = INFORMED_SHARE**2 * learned.document.cov[4]
    informed = [p for p in learned.posteriors.values() if p.cov[4] < known_below]
    result = {
        "seeds": "none: one real year",
        "product_weeks_scored": int(late.sum()),
        "weeks_scored": len(np.unique(rows.week[late])),
        "product_weeks_after_a_price_move": int((late & rows.moved).sum()),
        "constants_chosen_on_weeks_before": FIRST_WEEK,
        "constants": constants,
        "scores": summary(rows, scores),
        "elasticity_by_way_of_reading": trap(products, paid, learned),
        "products_with_a_known_elasticity": len(informed),
        "bulk_lines": report.bulk_lines,
        "products_with_bulk_price": report.bulk_products,
        "guest_price_ratio": report.guest_price_ratio,
        "price_moves": report.derived_events["price_applied"] - report.products,
        **machine("numpy", "scipy"),
    }
    retail_report.write(RESULTS, result, rows, scores, learned, paid.shown, FIRST_WEEK)
    return result


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="Online Retail, in any form")
    write_result("online_retail", measure(parser.parse_args().path))


if __name__ == "__main__":
    main()
