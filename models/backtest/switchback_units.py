"""The units of a switchback test, their profit by day, and which two of them make a pair."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.backtest.columns import Bools, Floats, Integers, Outcomes, Products
from models.backtest.realised import profit_minor

FAMILY, CATEGORY, GROUP = "family", "category", "group of families"
UNITS_MAX = 200  # more are put together: names enough to hand out, and nothing is lost


class Units(NamedTuple):
    """Units [unit], the largest revenue first, neighbours of like size.

    ``profit`` is realised, minor units, by unit and day [unit, day]. ``members`` are the families
    of each unit. ``left_out`` counts products whose profit is unknown.
    """

    kind: str
    names: list[str]
    members: list[list[str]]
    profit: Floats
    left_out: int


def units_of(
    products: Products,
    outcomes: Outcomes,
    currency: str,
    leaking: Sequence[str],
    days: tuple[int, int],
) -> Units:
    """Units of one currency over the event days from ``days[0]`` up to before ``days[1]``.

    Families are never split. A category named in ``leaking`` is one unit: its families take sales
    from each other, or rivals answer all of it. More than `UNITS_MAX` units are put together by
    turns, the largest apart, to groups of like revenue. A product whose profit is not known on some
    day is left out.
    """
    mine = np.array([one == currency for one in products.currencies], np.bool_)
    unknown = unknown_profit(len(mine), outcomes, days)
    inside = (outcomes.day >= days[0]) & (outcomes.day < days[1])
    rows = np.flatnonzero(inside & (mine & ~unknown)[outcomes.product])
    atoms: dict[str, list[int]] = {}
    kinds: set[str] = set()
    for number in np.flatnonzero(mine & ~unknown).tolist():
        category = products.categories[number]
        leaks = category in leaking
        name = f"{CATEGORY} {category}" if leaks else products.families[number]
        atoms.setdefault(name, []).append(number)
        kinds.add(CATEGORY if leaks else FAMILY)
    names = list(atoms)
    sold = np.bincount(outcomes.product[rows], outcomes.revenue_minor[rows], len(mine))
    size = np.array([sold[atoms[name]].sum() for name in names])
    order = sorted(range(len(names)), key=lambda i: (-size[i], names[i]))
    order = [i for i in order if size[i] > 0.0]  # what sold nothing tells nothing
    groups = _groups(order)
    unit = np.full(len(mine), -1, np.int64)
    for number, group in enumerate(groups):
        unit[[product for i in group for product in atoms[names[i]]]] = number
    grouped = len(groups) < len(order)
    return Units(
        kind=GROUP if grouped else CATEGORY if kinds == {CATEGORY} else FAMILY,
        names=[
            f"group {number + 1:03}" if grouped else names[group[0]]
            for number, group in enumerate(groups)
        ],
        members=[
            sorted({products.families[k] for i in group for k in atoms[names[i]]})
            for group in groups
        ],
        profit=profit_by_day(outcomes, unit, len(groups), days),
        left_out=int((mine & unknown).sum()),
    )


def profit_by_day(outcomes: Outcomes, unit: Integers, count: int, days: tuple[int, int]) -> Floats:
    """Realised profit [unit, day] from ``days[0]`` up to before ``days[1]``.

    Parameters
    ----------
    unit : of each product [product]; -1: of none
    """
    table = np.zeros((count, days[1] - days[0]))
    inside = (outcomes.day >= days[0]) & (outcomes.day < days[1])
    rows = np.flatnonzero(inside & (unit[outcomes.product] >= 0))
    amount = profit_minor(outcomes)[rows]
    np.add.at(table, (unit[outcomes.product[rows]], outcomes.day[rows] - days[0]), amount)
    return table


def unknown_profit(products: int, outcomes: Outcomes, days: tuple[int, int]) -> Bools:
    """Products of which something was sold on those days at a profit that is not known."""
    inside = (outcomes.day >= days[0]) & (outcomes.day < days[1])
    unknown = np.zeros(products, np.bool_)
    unknown[outcomes.product[inside & np.isnan(profit_minor(outcomes))]] = True
    return unknown


def _groups(order: list[int]) -> list[list[int]]:
    """By turns, to and fro, so that the groups are of like size."""
    if len(order) <= UNITS_MAX:
        return [[i] for i in order]
    groups: list[list[int]] = [[] for _ in range(UNITS_MAX)]
    for place, i in enumerate(order):
        turn, at = divmod(place, UNITS_MAX)
        groups[at if turn % 2 == 0 else UNITS_MAX - 1 - at].append(i)
    return groups


def pair_differences(profit: Floats) -> Floats:
    """Of neighbours, the first less the second [pair, ...]; an odd one out stands alone."""
    first, second = profit[0::2], profit[1::2]
    found = first.copy()
    found[: len(second)] -= second
    return found


def block_means(profit: Floats, washout: int, measured: int) -> Floats:
    """Mean a day of each whole block, its washout left out [..., block]."""
    length = washout + measured
    blocks = profit.shape[-1] // length
    cut = profit[..., : blocks * length].reshape(*profit.shape[:-1], blocks, length)
    return np.asarray(cut[..., washout:].mean(axis=-1))
