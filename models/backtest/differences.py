"""Where a candidate shows another price than the baseline, and what is at stake there.

Both prices of a stretch are valued by the same inputs, those of the baseline's last decision (the
candidate's, where the baseline has none): profit is the model's, before risk.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from models.backtest.collect import Activity, Columns, Notes
from models.backtest.columns import Bools, Floats, Integers
from models.backtest.lookup import last_known
from schemas.backtest import Count, Difference, Differences
from schemas.events import DAY_MS, rfc3339

NO_PRICE = -1.0  # tells stretches apart
LARGEST = 20  # stretches that are shown, of each currency
Value = Callable[[Floats, Floats, Floats], Floats]
"""(inputs [n, fields], price [n], reference price [n]) -> expected profit a day, [n]."""


class Stretches(NamedTuple):
    """Times in which neither policy's price changes, [stretch], by product and time.

    ``baseline`` and ``candidate`` are rows of the decisions in force, -1 before the first.
    ``at_stake_minor`` is the candidate's profit less the baseline's over the stretch, 0 where the
    price is the same, NaN where it is not known.
    """

    product: Integers
    from_ms: Integers
    to_ms: Integers
    baseline: Integers
    candidate: Integers
    baseline_minor: Floats
    candidate_minor: Floats
    at_stake_minor: Floats

    @property
    def days(self) -> Floats:
        """How long each lasts."""
        found: Floats = (self.to_ms - self.from_ms) / DAY_MS
        return found

    @property
    def differs(self) -> Bools:
        """Where one has a price that the other has not."""
        both_none = np.isnan(self.baseline_minor) & np.isnan(self.candidate_minor)
        found: Bools = (self.baseline_minor != self.candidate_minor) & ~both_none
        return found


def stretches(baseline: Columns, candidate: Columns, value: Value) -> Stretches:
    """Lay the decisions of two policies over the same products beside each other."""
    ours, theirs = baseline.decisions, candidate.decisions
    product = np.concatenate([ours.product, theirs.product])
    at_ms = np.concatenate([ours.at_ms, theirs.at_ms])
    side = np.repeat([0, 1], [len(ours.product), len(theirs.product)])
    row = np.concatenate([np.arange(len(ours.product)), np.arange(len(theirs.product))])
    order = np.lexsort((row, side, at_ms, product))
    product, at_ms, side, row = product[order], at_ms[order], side[order], row[order]
    rows = [last_known(product, np.where(side == one, row, -1)) for one in (0, 1)]
    to_ms = np.empty_like(at_ms)
    if len(at_ms):
        last = np.append(product[1:] != product[:-1], True)
        to_ms[:-1] = at_ms[1:]
        to_ms[last] = baseline.end_ms[product[last]]
    lasts = to_ms > at_ms
    found = Stretches(
        product[lasts],
        at_ms[lasts],
        to_ms[lasts],
        rows[0][lasts],
        rows[1][lasts],
        _of(ours.price_minor, rows[0][lasts]),
        _of(theirs.price_minor, rows[1][lasts]),
        np.zeros(int(lasts.sum())),
    )
    return found._replace(at_stake_minor=_at_stake(found, baseline, candidate, value))


def _of(values: Floats, row: Integers) -> Floats:
    """Values at rows; NaN where there is none."""
    if not len(values):
        return np.full(len(row), np.nan)
    return np.where(row >= 0, values[row], np.nan)


def _at_stake(found: Stretches, baseline: Columns, candidate: Columns, value: Value) -> Floats:
    at_stake = np.where(found.differs, np.nan, 0.0)
    for index, row, columns in _by_inputs(found, baseline, candidate):
        inputs = columns.decisions.inputs[row]
        reference = columns.decisions.reference_minor[row]
        known = np.isfinite(inputs[:, 0])
        index, inputs, reference = index[known], inputs[known], reference[known]
        profit = [
            value(inputs, prices[index], reference)
            for prices in (found.baseline_minor, found.candidate_minor)
        ]
        at_stake[index] = (profit[1] - profit[0]) * found.days[index]
    return at_stake


def _by_inputs(
    found: Stretches, baseline: Columns, candidate: Columns
) -> list[tuple[Integers, Integers, Columns]]:
    """Stretches to value, and the decisions whose inputs value them."""
    both = np.isfinite(found.baseline_minor) & np.isfinite(found.candidate_minor)
    asked = found.differs & both
    by_ours = asked & np.isfinite(_of(baseline.decisions.reference_minor, found.baseline))
    parts = []
    for chosen, row, columns in (
        (by_ours, found.baseline, baseline),
        (asked & ~by_ours, found.candidate, candidate),
    ):
        index = np.flatnonzero(chosen)
        parts.append((index, row[index], columns))
    return parts


def differences(
    found: Stretches,
    baseline: Columns,
    candidate: Columns,
    activity: tuple[Activity, Activity],
) -> Differences:
    """Sum up; ``activity`` is the baseline's and the candidate's."""
    days = found.days
    both = np.isfinite(found.baseline_minor) & np.isfinite(found.candidate_minor)
    total = float(days[both].sum())
    dearer = float(days[both & (found.candidate_minor > found.baseline_minor)].sum())
    cheaper = float(days[both & (found.candidate_minor < found.baseline_minor)].sum())
    joined = _joined(found)
    begins = [(int(found.from_ms[run[0]]), run) for run in joined]
    first = min(begins, default=(0, None))[1]
    ratio = np.log(found.candidate_minor[both] / found.baseline_minor[both])
    known = total > 0.0
    return Differences(
        product_days=total,
        same_share=(total - dearer - cheaper) / total if known else None,
        dearer_share=dearer / total if known else None,
        cheaper_share=cheaper / total if known else None,
        mean_ln_ratio=float(np.average(ratio, weights=days[both])) if known else None,
        products_differing=len(np.unique(found.product[found.differs])),
        first_divergence=None if first is None else _told(first, found, baseline, candidate),
        largest=tuple(
            _told(one, found, baseline, candidate) for one in _largest(joined, found, baseline)
        ),
        guards=_counts(activity[0].guards, activity[1].guards),
        breakers=_counts(activity[0].breakers, activity[1].breakers),
        holds=_counts(activity[0].holds, activity[1].holds),
    )


def _joined(found: Stretches) -> list[tuple[int, int]]:
    """Runs of stretches of one product with the same two prices: first and last + 1."""
    if not len(found.product):
        return []
    prices = (found.baseline_minor, found.candidate_minor)
    keys = np.stack(
        [found.product, *(np.where(np.isnan(price), NO_PRICE, price) for price in prices)], axis=1
    )
    first = np.flatnonzero(np.append(True, np.any(keys[1:] != keys[:-1], axis=1)))
    last = np.append(first[1:], len(keys))
    differs = found.differs[first]
    return list(zip(first[differs].tolist(), last[differs].tolist(), strict=True))


def _largest(
    joined: list[tuple[int, int]], found: Stretches, baseline: Columns
) -> list[tuple[int, int]]:
    sums = {run: float(np.sum(found.at_stake_minor[slice(*run)])) for run in joined}
    known = [run for run in joined if not np.isnan(sums[run])]
    chosen, counts = [], Counter[str]()
    for run in sorted(known, key=lambda run: (-abs(sums[run]), run)):
        currency = baseline.products.currencies[int(found.product[run[0]])]
        counts[currency] += 1
        if counts[currency] <= LARGEST:
            chosen.append(run)
    return chosen


def _told(
    run: tuple[int, int], found: Stretches, baseline: Columns, candidate: Columns
) -> Difference:
    at, (product, products) = run[0], (int(found.product[run[0]]), baseline.products)
    rows = (int(found.baseline[at]), int(found.candidate[at]))
    said = [
        _reasons(columns.notes, row)
        for columns, row in zip((baseline, candidate), rows, strict=True)
    ]
    reasons = [f"baseline: {one}" for one in said[0] if one not in said[1]]
    reasons += [f"candidate: {one}" for one in said[1] if one not in said[0]]
    stake = float(np.sum(found.at_stake_minor[slice(*run)]))
    return Difference(
        sku=products.skus[product],
        category=products.categories[product],
        currency=products.currencies[product],
        from_time=rfc3339(int(found.from_ms[at])),
        to_time=rfc3339(int(found.to_ms[run[1] - 1])),
        tape=_place(baseline, candidate, rows),
        baseline_minor=_whole(found.baseline_minor[at]),
        candidate_minor=_whole(found.candidate_minor[at]),
        at_stake_minor=None if np.isnan(stake) else stake,
        reasons=tuple(reasons),
    )


def _place(baseline: Columns, candidate: Columns, rows: tuple[int, int]) -> str:
    """Where on the tape the later of two decisions stands."""
    places = [
        (int(one.decisions.partition[row]), int(one.decisions.offset[row]))
        for one, row in zip((baseline, candidate), rows, strict=True)
        if row >= 0
    ]
    partition, offset = max(places)
    return f"tape[{partition}]@{offset}"


def _reasons(notes: Notes, row: int) -> list[str]:
    return [] if row < 0 else notes.texts[int(notes.reason[row])].split("; ")


def _whole(price: float) -> int | None:
    return None if np.isnan(price) else round(price)


def _counts(ours: Counter[str], theirs: Counter[str]) -> tuple[Count, ...]:
    names = sorted({**ours, **theirs}, key=lambda name: (-max(ours[name], theirs[name]), name))
    return tuple(Count(name=name, baseline=ours[name], candidate=theirs[name]) for name in names)
