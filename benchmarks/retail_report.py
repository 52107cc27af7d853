"""The report of the Online Retail benchmark: one picture of four panels, and a page around it."""

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.retail_forecasts import Floats, Forecasts, Table
from models.demand.demand import elasticity_interval
from schemas.events import DAY_MS

PRODUCTS_SHOWN = 45
FORECASTERS = {
    "model": ("demand model", "tab:blue"),
    "average_of_4_weeks": ("average of 4 weeks", "tab:green"),
    "seasonal_naive": ("seasonal naive (same days, last week)", "tab:orange"),
    "static_poisson": ("static Poisson", "tab:red"),
}


def write(
    folder: Path,
    result: dict[str, Any],
    rows: Table,
    scores: dict[str, Floats],
    learned: Forecasts,
    shown: Sequence[tuple[int, int, int, bool]],
    first_week: int,
) -> None:
    """Write ``online_retail.png`` and ``online_retail.html`` into the folder."""
    figure = Figure(figsize=(15, 11), layout="constrained")
    axes = figure.subplots(2, 2)
    _price_lists(axes[0, 0], shown)
    _elasticities(axes[0, 1], learned)
    _spread(axes[1, 0], learned)
    _score_by_week(axes[1, 1], rows, scores, first_week)
    folder.mkdir(exist_ok=True)
    picture = folder / "online_retail.png"
    figure.savefig(picture, dpi=110)
    encoded = base64.b64encode(picture.read_bytes()).decode()
    (folder / "online_retail.html").write_text(_page(result, encoded))


def _price_lists(axes: Axes, shown: Sequence[tuple[int, int, int, bool]]) -> None:
    """What was paid for one product: three price lists, none of them a price move."""
    first_day = shown[0][0] // DAY_MS
    for is_account, label, colour in (
        (False, "guests", "tab:orange"),
        (True, "account customers", "tab:blue"),
    ):
        lines = [line for line in shown if line[3] == is_account]
        days = [line[0] / DAY_MS - first_day for line in lines]
        sizes = [4.0 + 6.0 * math.log(line[2]) for line in lines]
        prices = [line[1] / 100 for line in lines]
        axes.scatter(days, prices, s=sizes, color=colour, alpha=0.35, linewidths=0, label=label)
    axes.set_title("Price lists of 85123A: each dot an order line, its size the units")
    axes.set_xlabel("day from 2010-12-01")
    axes.set_ylabel("unit price paid, GBP")
    axes.legend(loc="center right")


def _elasticities(axes: Axes, learned: Forecasts) -> None:
    """The best known elasticities by product, with 90 % intervals."""
    known = sorted(learned.posteriors.items(), key=lambda item: item[1].cov[4])[:PRODUCTS_SHOWN]
    known.sort(key=lambda item: item[1].mean[1])
    for place, (_, posterior) in enumerate(known):
        low, high = elasticity_interval(posterior)
        axes.plot([low, high], [place, place], color="tab:blue", linewidth=1.2)
        axes.plot(posterior.mean[1], place, "o", color="tab:blue", markersize=3.5)
    axes.axvline(-1.0, color="grey", linestyle="--", linewidth=0.8)
    axes.axvline(learned.document.mean[1], color="tab:red", linewidth=0.8, label="learned prior")
    axes.set_yticks(range(len(known)), [sku for sku, _ in known], fontsize=6)
    axes.set_title(f"Elasticity of the {len(known)} best known products, 90 % intervals")
    axes.set_xlabel("d ln(order lines) / d ln(price)")
    axes.legend(loc="lower right")


def _spread(axes: Axes, learned: Forecasts) -> None:
    """All products: what was learned against how sure it is."""
    means = [posterior.mean[1] for posterior in learned.posteriors.values()]
    sds = [math.sqrt(posterior.cov[4]) for posterior in learned.posteriors.values()]
    axes.scatter(means, sds, s=6, alpha=0.4, color="tab:blue", linewidths=0)
    axes.axvline(-1.0, color="grey", linestyle="--", linewidth=0.8)
    axes.set_title(f"All {len(means):,} products: elasticity and its sd after the year")
    axes.set_xlabel("posterior mean of the elasticity")
    axes.set_ylabel("posterior sd")


def _score_by_week(axes: Axes, rows: Table, scores: dict[str, Floats], first_week: int) -> None:
    weeks = np.unique(rows.week[rows.week >= first_week])
    for name, (label, colour) in FORECASTERS.items():
        means = [scores[name][rows.week == week].mean() for week in weeks]
        axes.plot(weeks, means, label=label, color=colour)
    axes.set_title("Log probability of the week's order lines, one step ahead")
    axes.set_xlabel("week from 2010-12-01")
    axes.set_ylabel("mean over products, nats")
    axes.legend()


def _page(result: dict[str, Any], picture: str) -> str:
    scores = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{value}</td>" for value in row.values())
        + "</tr>"
        for name, row in result["scores"].items()
    )
    heads = "".join(f"<th>{html.escape(n)}</th>" for n in result["scores"]["model"])
    ways = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{row['elasticity']}</td></tr>"
        for name, row in result["elasticity_by_way_of_reading"].items()
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Online Retail</title>"
        "<style>body{font:15px sans-serif;max-width:75em;margin:2em auto}"
        "td,th{padding:.2em .8em;text-align:right}td:first-child{text-align:left}"
        "img{max-width:100%}</style><h1>Online Retail: forecasts and elasticities</h1>"
        "<p>Daqing Chen, UCI Machine Learning Repository, CC BY 4.0, "
        "https://doi.org/10.24432/C5BW33</p>"
        f"<h2>One step ahead, {result['product_weeks_scored']:,} product-weeks</h2>"
        f"<table><tr><th></th>{heads}</tr>{scores}</table>"
        f"<h2>The same year read in four ways</h2><table>{ways}</table>"
        f"<img alt='Price lists, elasticities with intervals, their spread, scores by week' "
        f"src='data:image/png;base64,{picture}'></html>\n"
    )
