"""L2: what is kept of a warm product, and the quotes that follow from it without the full engine.

What needs no search is exact: the price in force, a segment's standing discount, the same problem
under the guards of one market. Where a cost or a stock is supposed, the light model says where the
objective is highest, and guards and rounding are applied to it by the fold's own code.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from models.fold.partition import PartitionState, subject_of
from models.guards import guards, limits, resale_trial
from models.guards.guards import GuardInputs
from models.kernel.objective import Row
from models.kernel.tile import Kernel
from models.pricing.path import expert_price_minor, is_unproven, price_path
from models.pricing.pose import SEARCH_HIGH, Posed
from models.prior import coldstart
from models.quotes import standing
from models.quotes.full import Wanted, no_discount, posed_with, situation, unknown_place, whole
from models.quotes.standing import InForce, Known, Stamp
from schemas.errors import InputError
from schemas.events import rfc3339, time_ms
from schemas.quotes import Quote, QuoteRequest
from schemas.scopes import Place, PlacedGuards
from schemas.state import Offer

L2 = "L2"
SHA_DIGITS = 16

Predict = Callable[[Row], tuple[float, float] | None]
"""The best price of a row, normalised, and how far it may be off, relative; None: out of range."""


class Problem(Struct, frozen=True, array_like=True, kw_only=True):
    """A product's problem as it was posed. ``base_minor`` is where its path led before the guards.

    ``expert_factor`` is the expert's price over unit cost and kept share, ``expert_share`` its part
    in the aim. ``only_full`` says why what is supposed needs the full engine.
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


class WarmProduct(Struct, frozen=True, array_like=True, kw_only=True):
    """What is kept of a product, as of a cut of the state; ``places`` names its guards."""

    sku: str
    stamp: Stamp
    in_force: InForce | None
    currency: str
    as_of_ms: int
    until_ms: int
    held: tuple[str, ...]
    offers: dict[str, Offer]
    disclosure: str | None
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
    posed: list[tuple[Wanted, Known, Posed | None]] = []
    for one in wanted:
        try:
            known = standing.known(one.partition, one.request.sku)
            held = _holding(one.partition, known)
            plain = QuoteRequest(sku=one.request.sku)
            posed.append((one, known, None if held else posed_with(one.partition, known, plain)))
        except InputError:
            continue
    rows = [
        row
        for *_, found in posed
        if found is not None
        for row in (found.frictionless, found.full, *found.cases)
    ]
    solved = iter(kernel.solve(rows))
    kept = []
    for one, known, found in posed:
        problem: Problem | None = None
        if found is not None:
            frictionless, full = next(solved), next(solved)
            cases = [next(solved) for _ in found.cases]
            path = price_path(one.partition, found, frictionless, full, cases, probes=False)
            if not path.finite:
                continue
            problem = _problem(one.partition, found, path.base_minor)
        kept.append(_kept(one, known, problem))
    return kept


def _holding(partition: PartitionState, known: Known) -> tuple[str, ...]:
    return standing.holding(partition, known, partition.policy_of(known.entry).breaker)


def _kept(one: Wanted, known: Known, problem: Problem | None) -> Kept:
    partition, sku = one.partition, one.request.sku
    policy = partition.policy_of(known.entry)
    places = _places(partition, known)
    stamp = standing.stamp_of(partition, sku)
    assert stamp is not None  # it is known
    offers = partition.offers.get(sku)
    product = WarmProduct(
        sku=sku,
        stamp=stamp,
        in_force=one.in_force,
        currency=known.entry.currency,
        as_of_ms=known.now_ms,
        until_ms=standing.good_until_ms(partition, known, policy.breaker),
        held=_holding(partition, known),
        offers={} if offers is None else offers.standing,
        disclosure=policy.discounts.disclosure,
        places=places_id(places),
        problem=problem,
    )
    return Kept(product, places)


def _places(partition: PartitionState, known: Known) -> Places:
    """Each place with its guards, also those that are the same as others'."""
    base, subject = partition.document.base, subject_of(known.entry)
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
        expert_share=_expert_share(partition, posed),
        expert_factor=expert / scale,
        inputs=limits.inputs(partition, situation(posed), posed.placed),
        rounding=guards.rounding_of(posed.policy.guards),
        only_full=_only_full(partition, posed),
    )


def _expert_share(partition: PartitionState, posed: Posed) -> float:
    """The expert's share in the aim, as `models.pricing.path` has it."""
    known = posed.state.passport
    if is_unproven(posed):
        return 1.0
    if known is None or known.graduated_ms is not None:
        return 0.0
    return coldstart.expert_share(partition.prior, posed.posterior)


def _only_full(partition: PartitionState, posed: Posed) -> str | None:
    """Why the full engine alone can tell what a supposed cost or stock leads to."""
    stock = posed.state.stock
    if posed.together is not None:
        return "its family is priced together"
    if posed.cases:
        return "its category is unknown"
    if stock is not None and stock.inbound > 0:
        return "stock is on its way"
    if any(place.guards.adaptive_step.tolerances for place in posed.placed):
        return "its longest step depends on what is supposed"
    if resale_trial.trial_of(partition, posed.entry) is not None:
        return "its minimum resale price may be on trial"
    return None


# -- answering


class Warm(NamedTuple):
    """A quote from what was kept, and until when it holds (event time)."""

    quote: Quote
    until_ms: int


def answer(kept: Kept, request: QuoteRequest, now_ms: int, predict: Predict) -> Warm | str:
    """The quote, or why only the full engine can give it.

    Raises
    ------
    InputError : it would refuse, too
    """
    product = kept.product
    if product.held or (request.quantity == 1 and not request.reckons):
        return _in_force(product, request)
    problem = product.problem
    if problem is None or request.quantity > 1:
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
        row = supposed(row, problem, request)
        found = _aim(problem, row, predict)
        if found is None:
            return "out of the light model's range"
        aim_minor, bound = found
        inputs = _inputs(problem, row, request)
    placed = _in_places(kept.places, request)
    bounds = guards.placed_bounds(inputs, placed)
    allowed = guards.feasible(bounds, placed[0].guards.tick_minor)
    quote = _quote(product, request, bound, *whole(aim_minor, allowed, problem.rounding))
    return Warm(quote, product.until_ms)


def supposed(row: Row, problem: Problem, request: QuoteRequest) -> Row:
    """The row with what is supposed, as `models.pricing.pose` would pose it."""
    if request.unit_cost_minor is not None:
        cost = request.unit_cost_minor / problem.reference_minor
        scale = cost / row.unit_cost
        row = row._replace(
            unit_cost=cost,
            return_cost=row.return_cost * (scale if problem.handling_scales else 1.0),
            holding_cost_per_day=row.holding_cost_per_day * scale,
            continuation_value=row.continuation_value * scale,
            upper=SEARCH_HIGH * max(1.0, cost / row.kept_share),
        )
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


def _in_force(product: WarmProduct, request: QuoteRequest) -> Warm | str:
    """The price in force, less the segment's standing discount; held: the last good price."""
    price = product.in_force
    if price is None:
        return "no price is in force"
    until_ms = product.until_ms
    if price.valid_until is not None:
        until_ms = max(time_ms(datetime.fromisoformat(price.valid_until)), product.as_of_ms)
    quote = _quote(product, request, 0.0, price.price_minor, (), product.held)
    quote = replace(quote, valid_until=price.valid_until)
    if request.segment is None or product.held:
        return Warm(quote, until_ms)
    offer = product.offers.get(request.segment)
    if (
        offer is None
        or product.as_of_ms >= offer.until_ms
        or offer.list_price_minor != price.price_minor
    ):
        return Warm(replace(quote, flags=(no_discount(request.segment),)), until_ms)
    until_ms = min(until_ms, offer.until_ms)
    quote = replace(
        quote,
        price_minor=price.price_minor - offer.amount_minor,
        discount_minor=offer.amount_minor,
        disclosure=product.disclosure,
        valid_until=rfc3339(until_ms),
    )
    return Warm(quote, until_ms)


def _quote(
    product: WarmProduct,
    request: QuoteRequest,
    bound: float,
    price_minor: int,
    moved: tuple[str, ...],
    flags: tuple[str, ...],
) -> Quote:
    price = product.in_force
    return Quote(
        sku=product.sku,
        price_minor=price_minor,
        currency=product.currency,
        quantity=request.quantity,
        tier=L2,
        source=L2,
        error_bound=bound,
        version=product.stamp.version,
        price_id=None if price is None else price.price_id,
        list_price_minor=None if price is None else price.price_minor,
        as_of=rfc3339(product.as_of_ms),
        valid_until=rfc3339(product.until_ms),
        guards=moved,
        flags=flags,
    )
