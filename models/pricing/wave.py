"""A wave: decisions that wait, priced together; the state is only read."""

from collections.abc import Iterator
from itertools import islice, starmap

from models.breaker.evidence import last_good_minor
from models.fold.partition import PartitionState
from models.guards.moving import stays
from models.kernel.tile import Evaluation, Kernel, Solution
from models.pricing.path import PricePath, price_path
from models.pricing.pose import Posed
from models.pricing.settle import Priced
from models.returns import returns_book


def priced(partition: PartitionState, kernel: Kernel, posed: list[Posed]) -> list[Priced]:
    """Price posed decisions, and mark the open orders of their products.

    Nothing of these products has changed since they were posed: what would, waits behind them.
    """
    posed, optima, cases = _solved(kernel, posed)
    paths = [
        price_path(
            partition,
            one,
            optima[2 * index],
            optima[2 * index + 1],
            list(islice(cases, len(one.cases))),
        )
        for index, one in enumerate(posed)
    ]
    on_path, at_present, back = _evaluated(kernel, posed, paths)
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
    kernel: Kernel, posed: list[Posed]
) -> tuple[list[Posed], list[Solution], Iterator[Solution]]:
    """The decisions, those in families with the best price that they would have alone; the best
    prices without friction and with it; those of all cases.

    In one run: what does not fill a tile costs as much as a full one.
    """
    together = [one.together.alone for one in posed if one.together]
    pairs = [row for one in posed for row in (one.frictionless, one.full)]
    found = iter(kernel.solve([*together, *pairs, *(row for p in posed for row in p.cases)]))
    priced = [
        one
        if one.together is None
        else one._replace(together=one.together.priced(next(found), one.reference_minor))
        for one in posed
    ]
    return priced, list(islice(found, len(pairs))), found


def _evaluated(
    kernel: Kernel, posed: list[Posed], paths: list[PricePath]
) -> tuple[list[Evaluation], list[Evaluation | None], list[Evaluation | None]]:
    """Evaluations over each path; at the present price, which may stay; and at the price before
    the last move, where an open breaker may go back to it.

    In one run, as the search.
    """
    present = [one.state.published_minor for one in posed]
    back = [last_good_minor(one) for one in posed]
    asked = [
        (one, price)
        for prices in (present, back)
        for one, price in zip(posed, prices, strict=True)
        if price is not None
    ]
    found = iter(
        kernel.evaluate(
            [one.full for one in (*posed, *(one for one, _ in asked))],
            [
                *(_prices(one, path) for one, path in zip(posed, paths, strict=True)),
                *([price / one.reference_minor] for one, price in asked),
            ],
        )
    )
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
