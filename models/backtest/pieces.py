"""History cut into pieces: stretches of an epoch in which neither policy's price changes."""

from typing import NamedTuple

import numpy as np

from models.backtest.columns import INPUTS, Decisions, Epochs, Floats, Integers, Outcomes
from models.backtest.lookup import first_of, last_at, last_known
from schemas.events import DAY_MS

_EPOCH, _BASELINE, _CANDIDATE = 0, 1, 2
_UNIT_COST = INPUTS.index("unit_cost")
_RETURN_COST = INPUTS.index("return_cost")
_KEPT_SHARE = INPUTS.index("kept_share")


class Pieces(NamedTuple):
    """Pieces [piece] in the order of product, then time.

    ``share`` is the part of its epoch's time. Prices are minor units; where a policy has none yet,
    it shows what was shown. ``baseline_row`` and ``candidate_row`` are the decisions in force, -1
    before the first. Cost, kept share and handling are those of the day, NaN where never known.
    """

    product: Integers
    epoch: Integers
    begin_ms: Integers
    end_ms: Integers
    share: Floats
    shown_minor: Floats
    baseline_minor: Floats
    candidate_minor: Floats
    baseline_row: Integers
    candidate_row: Integers
    unit_cost_minor: Floats
    kept_share: Floats
    handling_minor: Floats

    def take(self, index: Integers) -> "Pieces":
        """The pieces at ``index``."""
        return Pieces._make(column[index] for column in self)


def cut(
    epochs: Epochs,
    baseline: Decisions,
    candidate: Decisions,
    outcomes: Outcomes,
    from_ms: int,
    to_ms: int,
) -> Pieces:
    """Cut the epochs between ``from_ms`` (included) and ``to_ms`` (excluded)."""
    at_ms, product, epoch, rows = _sweep(epochs, baseline, candidate)
    begin_ms, end_ms = at_ms, np.append(at_ms[1:], 0)
    same = np.append(product[1:] == product[:-1], False)
    end_ms = np.where(same, end_ms, begin_ms)
    inside = epoch >= 0
    number = np.where(inside, epoch, 0)
    end_ms = np.minimum(end_ms, epochs.end_ms[number]) if len(epochs.product) else end_ms
    begin_ms, end_ms = np.maximum(begin_ms, from_ms), np.minimum(end_ms, to_ms)
    kept = np.flatnonzero(inside & (end_ms > begin_ms))
    number, begin_ms, end_ms = epoch[kept], begin_ms[kept], end_ms[kept]
    length = epochs.end_ms[number] - epochs.begin_ms[number]
    shown = epochs.price_minor[number]
    rows = rows[:, kept]
    who = product[kept]
    cost, kept_share, handling = _money(who, begin_ms, outcomes, baseline, candidate)
    return Pieces(
        product=who,
        epoch=number,
        begin_ms=begin_ms,
        end_ms=end_ms,
        share=(end_ms - begin_ms) / length,
        shown_minor=shown,
        baseline_minor=_in_force(baseline, rows[0], shown),
        candidate_minor=_in_force(candidate, rows[1], shown),
        baseline_row=rows[0],
        candidate_row=rows[1],
        unit_cost_minor=cost,
        kept_share=kept_share,
        handling_minor=handling,
    )


def _sweep(
    epochs: Epochs, baseline: Decisions, candidate: Decisions
) -> tuple[Integers, Integers, Integers, Integers]:
    """All moments at which something begins, sorted, and what is in force from each on.

    Returns times, products, the epoch (-1: none yet) and the two decisions in force [2, moment].
    """
    parts = [epochs.product, baseline.product, candidate.product]
    times = [epochs.begin_ms, baseline.at_ms, candidate.at_ms]
    kind = np.repeat([_EPOCH, _BASELINE, _CANDIDATE], [len(part) for part in parts])
    place = np.concatenate([np.arange(len(part)) for part in parts])
    product, at_ms = np.concatenate(parts), np.concatenate(times)
    order = np.lexsort((place, at_ms, product))  # equal times: the later of one policy counts
    product, at_ms, kind, place = product[order], at_ms[order], kind[order], place[order]
    found = [
        last_known(product, np.where(kind == wanted, place, -1))
        for wanted in (_EPOCH, _BASELINE, _CANDIDATE)
    ]
    return at_ms, product, found[0], np.stack(found[1:])


def _in_force(decisions: Decisions, row: Integers, shown: Floats) -> Floats:
    """The policy's price, or what was shown while it has none."""
    if not len(decisions.price_minor):
        return shown
    price = np.where(row >= 0, decisions.price_minor[np.maximum(row, 0)], np.nan)
    return np.where(np.isnan(price), shown, price)


def _money(
    product: Integers,
    at_ms: Integers,
    outcomes: Outcomes,
    baseline: Decisions,
    candidate: Decisions,
) -> tuple[Floats, Floats, Floats]:
    """Unit cost, kept share and handling of each piece: of the day, else of the decisions."""
    day = at_ms // DAY_MS
    columns = outcomes.unit_cost_minor, outcomes.kept_share, outcomes.handling_minor
    found = [_nearest(product, day, outcomes.product, outcomes.day, column) for column in columns]
    for policy in (baseline, candidate):
        reference, rows = policy.reference_minor, policy.inputs
        known = (
            rows[:, _UNIT_COST] * reference, rows[:, _KEPT_SHARE], rows[:, _RETURN_COST] * reference
        )  # fmt: skip
        for k, column in enumerate(known):
            if np.isnan(found[k]).any():
                other = _nearest(product, at_ms, policy.product, policy.at_ms, column)
                found[k] = np.where(np.isnan(found[k]), other, found[k])
    return found[0], found[1], found[2]


def _nearest(
    product: Integers, at: Integers, of_product: Integers, of_time: Integers, values: Floats
) -> Floats:
    """The product's last known value at or before a time, else its first one after; else NaN."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.full(len(product), np.nan)
    of_product, of_time = of_product[known], of_time[known]
    last = last_at(of_product, of_time, product, at)
    row = np.where(last >= 0, last, first_of(of_product, of_time, product))
    return np.where(row >= 0, values[known[row]], np.nan)
