"""Forecast against outcome at the prices that were charged, in bins of like forecast.

Demand: what an epoch's orders were expected to be before it taught anything. Returns: the rate that
the last decision before the day expected at the price that was paid.
"""

from statistics import NormalDist

import numpy as np

from models.backtest.columns import Decisions, Epochs, Floats, Integers, Outcomes
from models.backtest.expected import return_rate
from models.backtest.lookup import last_at
from schemas.backtest import Calibration, CalibrationBin
from schemas.events import DAY_MS

BINS = 10  # of like shares of what was observed; more where forecasts span too much
SPAN_RATIO_MAX = 4.0  # of the forecasts in a bin
ROWS_MIN = 5  # of a bin
LEVEL = 0.9
RETURN_DAYS = 30  # after so many days nearly all that comes back has come


def demand_calibration(epochs: Epochs) -> Calibration:
    """Orders an epoch, expected and observed; epochs that nothing was expected of are left out."""
    used = np.isfinite(epochs.mean_orders) & (epochs.mean_orders > 0.0)
    forecast = epochs.mean_orders[used]
    return Calibration(
        name="demand", bins=binned(forecast, epochs.orders[used], np.ones_like(forecast))
    )


def return_calibration(decisions: Decisions, outcomes: Outcomes) -> Calibration:
    """Share of units returned, expected and observed, of days at least 30 days before the last.

    Parameters
    ----------
    decisions : those that were in force (of the baseline)
    """
    last = int(outcomes.day.max(initial=0))
    row = _last_before(decisions, outcomes.product, outcomes.day * DAY_MS)
    used = (outcomes.day <= last - RETURN_DAYS) & (outcomes.units > 0.0)
    used &= (outcomes.revenue_minor > 0.0) & (row >= 0)
    row, units = row[used], outcomes.units[used]
    paid = outcomes.revenue_minor[used] / units / decisions.reference_minor[row]
    rate = return_rate(decisions.inputs[row], paid)
    known = np.isfinite(rate) & (rate > 0.0)
    back = np.minimum(outcomes.returned_units[used], units)
    return Calibration(
        name="returns", bins=binned((rate * units)[known], back[known], units[known])
    )


def binned(forecast: Floats, observed: Floats, weight: Floats) -> tuple[CalibrationBin, ...]:
    """Bins of like forecast rate, each with about the same number of observed counts.

    Parameters
    ----------
    forecast, observed : counts [row], forecasts above 0
    weight : what a count is of [row], above 0: rates are counts over it

    Notes
    -----
    The interval is that of a ratio of sums over rows, from the rows' own residuals; never narrower
    than that of a Poisson count of as many.
    """
    order = np.argsort(forecast / weight, kind="stable")
    forecast, observed, weight = forecast[order], observed[order], weight[order]
    found = []
    begin = 0
    for end in _ends(forecast / weight, observed):
        rows = slice(begin, end)
        found.append(_bin(forecast[rows], observed[rows], weight[rows]))
        begin = end
    return tuple(found)


def _ends(rate: Floats, observed: Floats) -> list[int]:
    """Where bins end: at a tenth of what was observed, or where forecasts span too much.

    None has fewer than `ROWS_MIN` rows, so that a few wild forecasts have bins of their own.
    """
    rows, ends, begin = len(rate), list[int](), 0
    reached = np.concatenate([[0.0], np.cumsum(observed)])
    while rows - begin >= ROWS_MIN:
        share = np.searchsorted(reached, reached[begin] + reached[-1] / BINS)
        span = np.searchsorted(rate, SPAN_RATIO_MAX * rate[begin], side="right")
        end = max(int(min(share if reached[-1] > 0.0 else rows, span)), begin + ROWS_MIN)
        begin = end if rows - end >= ROWS_MIN else rows
        ends.append(begin)
    return ends


def _bin(forecast: Floats, observed: Floats, weight: Floats) -> CalibrationBin:
    total = float(np.sum(weight))
    rate = float(np.sum(observed)) / total
    squares = float(np.sum(np.square(observed - rate * weight)))
    sd = max(squares, float(np.sum(observed)), 1.0) ** 0.5 / total
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2.0) * sd
    return CalibrationBin(
        forecast=float(np.sum(forecast)) / total,
        observed=rate,
        observed_low=max(rate - half, 0.0),
        observed_high=rate + half,
        weight=total,
    )


def _last_before(decisions: Decisions, product: Integers, at_ms: Integers) -> Integers:
    """The row of each product's last decision with a record at or before a time; -1: none."""
    rows = np.flatnonzero(np.isfinite(decisions.inputs).all(axis=1))
    found = last_at(decisions.product[rows], decisions.at_ms[rows], product, at_ms)
    return np.where(found >= 0, rows[found] if len(rows) else -1, -1)
