"""A wave: decisions that wait, priced together; the state is only read."""

from collections.abc import Iterator
from itertools import islice, starmap

import numpy as np

from models.breaker.evidence import last_good_minor
from models.fold.partition import PartitionState
from models.guards.moving import stays
from models.kernel.objective import Row
from models.kernel.tile import Evaluation, Floats, Kernel, Solution
from models.pricing.path import PricePath, price_path
from models.pricing.pose import Posed
from models.pricing.settle import Priced
from models.returns import returns_book

UNLIMITED, RISK_AVERSION = map(Row._fields.index, ("unlimited", "risk_aversion"))


def priced(partition: PartitionState, kernel: Kernel, posed: list[Posed]) -> list[Priced]:
    """Price posed decisions, and mark the open orders of their products.

    Nothing of these products has changed since they were posed: what would, waits behind them.
    """
    full = np.array([one.full for one in posed], dtype=np.float64)
    posed, optima, cases = _solved(kernel, posed, full)
    paths = [
        price_path(partition, one, *best, list(islice(cases, len(one.cases))))
        for one, best in zip(posed, optima, strict=True)
    ]
    on_path, at_present, back = _evaluated(kernel, posed, full, paths)
    kept = [stays(one, path, at) for one, path, at in zip(posed, paths, on_path, strict=True)]
    chosen = [
        (one.state.published_minor or 0) if keep else path.wanted_minor
        for one, path, keep in zip(posed, paths, kept, strict=True)
    ]
    at_chosen = [
        present if keep and present is not None else at
        for at, present, keep in zip(on_path, at_present, kept, strict=True)
    ]
    marked = returns_book.marked(partition, [(one.state.sku, one.request.now_ms) for one in posed])
    return list(
        starmap(Priced, zip(posed, paths, at_chosen, on_path, chosen, back, marked, strict=True))
    )


def _solved(
    kernel: Kernel, posed: list[Posed], full: Floats
) -> tuple[list[Posed], list[tuple[Solution, Solution]], Iterator[Solution]]:
    """The decisions, those in families with the best price that they would have alone; the best
    prices without friction (nor partners) and with it; those of all cases.

    In one run: what does not fill a tile costs as much as a full one.
    """
    frictionless = full.copy()
    alone = [(place, one.together.alone) for place, one in enumerate(posed) if one.together]
    for place, row in alone:
        frictionless[place] = row
    frictionless[:, UNLIMITED], frictionless[:, RISK_AVERSION] = 1.0, 0.0
    others = [*(row for _, row in alone), *(row for one in posed for row in one.cases)]
    matrix = np.concatenate([frictionless, full, *([np.array(others)] if others else [])])
    found = iter(kernel.solve(matrix))
    optima = list(zip(*(list(islice(found, len(posed))) for _ in range(2)), strict=True))
    priced = [
        one
        if one.together is None
        else one._replace(together=one.together.priced(next(found), one.reference_minor))
        for one in posed
    ]
    return priced, optima, found


def _evaluated(
    kernel: Kernel, posed: list[Posed], full: Floats, paths: list[PricePath]
) -> tuple[list[Evaluation], list[Evaluation | None], list[Evaluation | None]]:
    """Evaluations over each path; at the present price, which may stay; and at the price before
    the last move, where an open breaker may go back to it.

    In one run, as the search.
    """
    present = [one.state.published_minor for one in posed]
    back = [last_good_minor(one) for one in posed]
    asked = [
        (place, price)
        for prices in (present, back)
        for place, price in enumerate(prices)
        if price is not None
    ]
    prices = [_prices(one, path) for one, path in zip(posed, paths, strict=True)]
    prices += [[price / posed[place].reference_minor] for place, price in asked]
    places = [*range(len(posed)), *(place for place, _ in asked)]
    found = iter(kernel.evaluate(full[places], prices))
    on_path = list(islice(found, len(posed)))
    at_present = [None if price is None else next(found) for price in present]
    return on_path, at_present, [None if price is None else next(found) for price in back]


def _prices(one: Posed, path: PricePath) -> list[float]:
    """Normalised prices of a path: optimum, aim before and after exploration, after each guard,
    the present, the wanted one.
    """
    present = one.state.published_minor or path.wanted_minor
    prices = [path.optimum_minor, path.base_minor, path.aimed_minor]
    prices += [move.after_minor for move in path.moves]
    prices += [float(present), float(path.wanted_minor)]
    return [price / one.reference_minor for price in prices]
