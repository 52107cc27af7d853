"""L2: what is kept of a warm product, and the quotes that follow from it without the full engine.

What needs no search is exact: the price in force, a segment's standing discount, the same problem
under the guards of one market. Where a cost or a stock is supposed, the light model says where the
objective is highest, and guards and rounding are applied to it by the fold's own code.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from models.fold.holds import subject_of
from models.fold.partition import PartitionState
from models.guards import guards, limits
from models.guards.guards import GuardInputs
from models.kernel.objective import Row
from models.kernel.tile import Kernel
from models.pricing.path import blend_share, expert_price_minor, is_unproven
from models.pricing.pose import HORIZON_DAYS_MIN, Posed, with_unit_cost
from models.prior import coldstart
from models.quotes import standing
from models.quotes.full import Wanted, paths_of, posed_with, situation, unknown_place, whole
from models.quotes.standing import Basis, Timed
from schemas.errors import InputError
from schemas.events import DAY_MS
from schemas.quotes import QuoteRequest
from schemas.scopes import Place, PlacedGuards
from schemas.state import CatalogueEntry

L2 = "L2"
SHA_DIGITS = 16

Predict = Callable[[Row], tuple[float, float] | None]
"""The best price of a row, normalised, and how far it may be off, relative; None: out of range."""


class Problem(Struct, frozen=True, array_like=True, kw_only=True):
    """A product's problem as it was posed. ``base_minor`` is where its path led before the guards.

    ``expert_factor`` is the expert's price over unit cost and kept share, ``expert_share`` its part
    in the aim. ``only_full`` says why what is supposed needs the full engine; a supposed stock
    below ``stock_from``, or any where that is null, does in any case: the horizon depends on it.
    """

    base_minor: float
    reference_minor: int
    row: tuple[float, ...]
    handling_scales: bool
    expert_share: float
    expert_factor: float
    inputs: GuardInputs
    rounding: guards.Rounding
    only_full: str | None
    stock_from: int | None


class WarmProduct(Struct, frozen=True, array_like=True, kw_only=True):
    """What is kept of a product; ``places`` names its guards, ``problem`` is null where held."""

    basis: Basis
    places: str
    problem: Problem | None


class Places(Struct, frozen=True, array_like=True):
    """The guards of every market and channel, by the hash of them all."""

    placed: tuple[PlacedGuards, ...]


class Kept(NamedTuple):
    """A warm product and its guards."""

    product: WarmProduct
    places: Places


msgspec.msgpack.Decoder(WarmProduct)  # planned here: see schemas.codec.plan
msgspec.msgpack.Decoder(Places)


def encoded(record: WarmProduct | Places) -> bytes:
    """The record as bytes."""
    return msgspec.msgpack.encode(record)


def places_id(places: Places) -> str:
    """The name under which a set of guards is kept."""
    return hashlib.sha256(encoded(places)).hexdigest()[:SHA_DIGITS]


# -- keeping


def products(kernel: Kernel, wanted: Sequence[Wanted]) -> list[Kept]:
    """What to keep of products; one that can't be quoted is left out."""
    posed: list[tuple[PartitionState, Basis, Posed | None]] = []
    for partition, request, in_force in wanted:
        try:
            basis = standing.basis_of(partition, request.sku, in_force)
            plain = QuoteRequest(sku=request.sku)
            found = None if basis.held else posed_with(partition, plain)
        except InputError:
            continue
        posed.append((partition, basis, found))
    reckoned = ((partition, found) for partition, _, found in posed if found is not None)
    paths = iter(paths_of(kernel, list(reckoned)))
    kept = []
    for partition, basis, found in posed:
        problem: Problem | None = None
        if found is not None:
            path = next(paths)
            if not path.finite:
                continue
            problem = _problem(partition, found, path.base_minor)
        places = _places(partition, partition.catalogue[basis.sku])
        kept.append(
            Kept(WarmProduct(basis=basis, places=places_id(places), problem=problem), places)
        )
    return kept


def _places(partition: PartitionState, entry: CatalogueEntry) -> Places:
    """Each place with its guards, also those that are the same as others'."""
    base, subject = partition.document.base, subject_of(entry)
    return Places(
        tuple(
            PlacedGuards(
                Place(market, channel),
                partition.document.guards_in(subject, market, channel)[0].guards,
            )
            for market in (tuple(base.markets) or (None,))
            for channel in (base.channels or (None,))
        )
    )


def _problem(partition: PartitionState, posed: Posed, base_minor: float) -> Problem:
    scale = posed.unit_cost_minor / posed.entry.kept_share
    expert = expert_price_minor(partition, posed)
    return Problem(
        base_minor=base_minor,
        reference_minor=posed.reference_minor,
        row=tuple(posed.full),
        handling_scales=posed.entry.return_handling_cost_minor is None,
        expert_share=1.0 if is_unproven(posed) else blend_share(partition, posed) or 0.0,
        expert_factor=expert / scale,
        inputs=limits.inputs(partition, situation(posed), posed.placed),
        rounding=guards.rounding_of(posed.policy.guards),
        only_full=_only_full(partition, posed),
        stock_from=_stock_from(posed),
    )


def _only_full(partition: PartitionState, posed: Posed) -> str | None:
    """Why the full engine alone can tell what a supposed cost or stock leads to."""
    if posed.together is not None:
        return "its family is priced together"
    if posed.cases:
        return "its category is unknown"
    if any(place.guards.adaptive_step.tolerances for place in posed.placed):
        return "its longest step depends on what is supposed"
    if partition.trial_of(posed.entry) is not None:
        return "its minimum resale price may be on trial"
    return None


def _stock_from(posed: Posed) -> int | None:
    """From which stock on the horizon is the present one: see `models.pricing.pose`."""
    stock = posed.state.stock
    if stock is None or stock.inbound == 0 or stock.inbound_eta_ms is None:
        return 0
    soon = stock.inbound_eta_ms - posed.request.now_ms <= HORIZON_DAYS_MIN * DAY_MS
    return None if soon or stock.on_hand == 0 else 1


# -- answering


def answer(kept: Kept, request: QuoteRequest, predict: Predict) -> Timed | str:
    """The quote, or why only the full engine can give it. Raises InputError as that does."""
    basis, problem = kept.product.basis, kept.product.problem
    if standing.needs_no_reckoning(basis, request):
        return standing.in_force_quote(basis, request, L2)
    if problem is None:
        return "no price is in force"
    if request.quantity > 1:
        return "several units at once"
    if request.segment is not None:
        return "a segment's price is to be reckoned"
    aim_minor, bound = problem.base_minor, 0.0
    row, inputs = Row._make(problem.row), problem.inputs
    if request.is_placed and problem.only_full is not None:
        return problem.only_full
    if request.supposes:
        if problem.only_full is not None:
            return problem.only_full
        units, least = request.stock_units, problem.stock_from
        if units is not None and (least is None or units < least):
            return "the horizon depends on the stock"
        row = supposed(row, problem, request)
        found = _aim(problem, row, predict)
        if found is None:
            return "out of the light model's range"
        aim_minor, bound = found
        inputs = _inputs(problem, row, request)
    placed = _in_places(kept.places, request)
    bounds = guards.placed_bounds(inputs, placed)
    allowed = guards.feasible(bounds, placed[0].guards.tick_minor)
    price_minor, moved, flags = whole(aim_minor, allowed, problem.rounding)
    quote = standing.quoted(basis, request, L2, price_minor, bound=bound, guards=moved, flags=flags)
    return Timed(quote, basis.until_ms)


def supposed(row: Row, problem: Problem, request: QuoteRequest) -> Row:
    """The row with what is supposed, as `models.pricing.pose` would pose it."""
    if request.unit_cost_minor is not None:
        cost = request.unit_cost_minor / problem.reference_minor
        if problem.handling_scales:
            row = row._replace(return_cost=row.return_cost * (cost / row.unit_cost))
        row = with_unit_cost(row, cost)
    if request.stock_units is not None:
        row = row._replace(stock=float(request.stock_units), unlimited=0.0)
    return row


def _aim(problem: Problem, row: Row, predict: Predict) -> tuple[float, float] | None:
    """The aim before the guards, minor units, and how far it may be off."""
    share, reference = problem.expert_share, problem.reference_minor
    expert = problem.expert_factor * row.unit_cost * reference / row.kept_share
    if share >= 1.0:
        return expert, 0.0
    found = predict(row)
    if found is None:
        return None
    optimum, bound = found[0] * reference, found[1]
    if share <= 0.0:
        return optimum, bound
    return coldstart.blended(optimum, expert, share), bound


def _inputs(problem: Problem, row: Row, request: QuoteRequest) -> GuardInputs:
    """What the guards look at with what is supposed."""
    inputs = problem.inputs
    if request.unit_cost_minor is not None:
        inputs = inputs._replace(unit_cost_minor=request.unit_cost_minor)
    if request.stock_units is not None and inputs.previous_minor is not None:
        price = inputs.previous_minor / problem.reference_minor
        days = request.stock_units / limits.units_per_day(row, price)
        inputs = inputs._replace(stock_cover_days=days)
    return inputs


def _in_places(places: Places, request: QuoteRequest) -> tuple[PlacedGuards, ...]:
    """The guards of the places asked for; of places with the same guards the first. Raises."""
    found: list[PlacedGuards] = []
    for one in places.placed:
        if request.market not in (None, one.place.market):
            continue
        if request.channel not in (None, one.place.channel):
            continue
        if all(one.guards != other.guards for other in found):
            found.append(one)
    if not found:
        raise unknown_place(request)
    return tuple(found)
