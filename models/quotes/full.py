"""L3, the full engine: quotes are posed, solved and led to a whole price as decisions are.

The fold's own functions on a copy of its state, which is only read. What is supposed stands in the
place of what is known while the problem is posed. No quote is a probe, and none is published.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from models.breaker import breaker
from models.family import family_joint
from models.fold.context import Request
from models.fold.holds import subject_of
from models.fold.partition import PartitionState
from models.guards import gate, guards, limits
from models.kernel.objective import Row
from models.kernel.tile import Kernel
from models.pricing import discounts
from models.pricing.path import EXPERT, PricePath, price_path
from models.pricing.pose import Posed
from models.quotes import bulk, standing
from models.quotes.standing import Basis, InForce, Stamp
from schemas.errors import InputError
from schemas.quotes import Quote, QuoteRequest
from schemas.scopes import PlacedGuards
from schemas.state import Stock

TRIGGER = "quote"
L3 = "L3"
BELOW_RESERVATION = "below the reservation price: the units are worth more if they stay"


class Wanted(NamedTuple):
    """A quote that is asked for, the copy of its product's state, and its price in force."""

    partition: PartitionState
    request: QuoteRequest
    in_force: InForce | None


class Found(NamedTuple):
    """A quote, until when it holds (event time), and what it rests on."""

    quote: Quote
    until_ms: int
    stamp: Stamp


class Open(NamedTuple):
    """A quote that is to be reckoned."""

    wanted: Wanted
    basis: Basis
    posed: Posed
    allowed: guards.Feasible
    stock_rows: tuple[Row, ...]  # of several at once: with the stock now, after one, after all


Answer = Found | InputError


def answers(kernel: Kernel, wanted: Sequence[Wanted]) -> list[Answer]:
    """The full engine's answers, in order; what cannot be quoted comes with the reason.

    All together in one run of the kernel, two more where several units are asked for, one more for
    each partition in which a segment is: what does not fill a tile costs as much as a full one.
    """
    prepared = [_refusable(one) for one in wanted]
    opened = [one for one in prepared if isinstance(one, Open)]
    reckoned = iter(_reckoned(kernel, opened))
    return [next(reckoned) if isinstance(one, Open) else one for one in prepared]


def _refusable(wanted: Wanted) -> Open | Answer:
    try:
        return _prepared(wanted)
    except InputError as refusal:
        return refusal


def _prepared(wanted: Wanted) -> Open | Found:
    """A quote that is known already, or the problem that it poses. Raises InputError."""
    partition, request, in_force = wanted
    basis = standing.basis_of(partition, request.sku, in_force)
    if standing.needs_no_reckoning(basis, request):
        return Found(*standing.in_force_quote(basis, request, L3), basis.stamp)
    placed = _placed(partition, request)
    posed = posed_with(partition, request)
    allowed = posed.allowed
    if placed is not None:
        allowed = limits.allowed(partition, situation(posed), placed)
    if posed.stock_units is not None and request.quantity > max(posed.stock_units, 1):
        raise InputError(
            "beyond_stock",
            f"{request.quantity} units were asked for; {posed.stock_units} can be sold.",
            field="quantity", value=request.quantity, expected=f"1 to {posed.stock_units}",
        )  # fmt: skip
    rows: tuple[Row, ...] = ()
    if request.quantity > 1 and posed.stock_units is not None:
        row = posed.full
        rows = tuple(bulk.with_stock(row, row.stock - sold) for sold in (0, 1, request.quantity))
    return Open(wanted, basis, posed, allowed, rows)


def situation(posed: Posed) -> limits.Situation:
    """A posed quote as its guards look at it."""
    return limits.Situation(
        posed.state, posed.entry, posed.full, posed.rivals, posed.bounded, posed.request.now_ms,
        asked=posed.asked,
    )  # fmt: skip


def posed_with(partition: PartitionState, request: QuoteRequest) -> Posed:
    """The problem with what is supposed; of a family of several, with its partners.

    Raises
    ------
    InputError : the product cannot be priced
    """
    sku = request.sku
    state, entry = partition.skus[sku], partition.catalogue[sku]
    at_ms = standing.now_ms(partition, state)
    asked = Request(
        sku, TRIGGER, partition.manifest.position, at_ms, at_ms,
        catalogue=partition.catalogue_breaker,
    )  # fmt: skip
    if request.stock_units is not None:
        supposed = _supposed(state.stock, request.stock_units, at_ms)
        partition.skus[sku] = replace(state, stock=supposed)
    if request.unit_cost_minor is not None:
        partition.catalogue[sku] = replace(entry, unit_cost_minor=request.unit_cost_minor)
    try:
        found = next(
            found for one, found in family_joint.asked(partition, [asked]) if one.sku == sku
        )
    finally:
        partition.skus[sku], partition.catalogue[sku] = state, entry
    if isinstance(found, str):
        raise InputError("not_priced", f"{sku} is not priced: {found}.", field="sku", value=sku)
    return found


def _supposed(known: Stock | None, units: int, at_ms: int) -> Stock:
    """Stock with so many on hand; what is on its way stays."""
    return Stock(units, 0, None, at_ms) if known is None else replace(known, on_hand=units)


def _placed(partition: PartitionState, request: QuoteRequest) -> tuple[PlacedGuards, ...] | None:
    """The guards of the places that are asked for; None for all. Raises InputError."""
    if not request.is_placed:
        return None
    subject = subject_of(partition.catalogue[request.sku])
    found = partition.document.guards_in(subject, request.market, request.channel)
    if found:
        return found
    raise unknown_place(request)


def unknown_place(request: QuoteRequest) -> InputError:
    """The policy names no such market or channel."""
    field = "market" if request.market is not None else "channel"
    return InputError(
        "unknown_place",
        f"the policy names no place with market {request.market} and channel {request.channel}.",
        field=field, value=getattr(request, field), expected="a market and channel of the policy",
    )  # fmt: skip


# -- reckoning


class _Path(NamedTuple):
    """Where a quote's path led, before the guards, and what one unit costs."""

    path: PricePath
    aim_minor: float
    of_one: "Whole"


def _reckoned(kernel: Kernel, opened: list[Open]) -> list[Answer]:
    paths = _paths(kernel, opened)
    worths = _worths(kernel, opened, paths)
    rows = [
        bulk.with_worth(one.posed.frictionless, worth)
        for one, found in zip(opened, worths, strict=True)
        for worth in found or ()
    ]
    best = iter(kernel.solve(rows))
    wishes = _wishes(kernel, opened)
    found: list[Answer] = []
    for one, path, worth, wished in zip(opened, paths, worths, wishes, strict=True):
        ratio = 1.0
        if worth is not None:
            of_one, of_many = next(best), next(best)
            if of_one.finite and of_many.finite:
                ratio = of_many.price / of_one.price
        try:
            answer = _settled(one, path, ratio, None if worth is None else worth[1])
            found.append(_discounted(one, path.path, answer, wished))
        except InputError as refusal:
            found.append(refusal)
    return found


def paths_of(kernel: Kernel, problems: Sequence[tuple[PartitionState, Posed]]) -> list[PricePath]:
    """Where each problem's path leads, without probes; all in one run of the kernel."""
    rows = [row for _, one in problems for row in (one.frictionless, one.full, *one.cases)]
    solved = iter(kernel.solve(rows))
    paths = []
    for partition, posed in problems:
        frictionless, full = next(solved), next(solved)
        cases = [next(solved) for _ in posed.cases]
        paths.append(price_path(partition, posed, frictionless, full, cases, probes=False))
    return paths


def _paths(kernel: Kernel, opened: list[Open]) -> list[_Path]:
    found = paths_of(kernel, [(one.wanted.partition, one.posed) for one in opened])
    paths = []
    for one, path in zip(opened, found, strict=True):
        _, request, in_force = one.wanted
        aim = path.base_minor
        if in_force is not None and not request.reckons:
            aim = float(in_force.price_minor)
        rounding = guards.rounding_of(one.posed.policy.guards)
        paths.append(_Path(path, aim, whole(aim, one.allowed, rounding)))
    return paths


def _worths(
    kernel: Kernel, opened: list[Open], paths: list[_Path]
) -> list[tuple[float, float] | None]:
    """omega of one unit and of all; None where stock is unlimited, or nothing is finite."""
    rows = [row for one in opened for row in one.stock_rows]
    prices = [
        [path.of_one.price_minor / one.posed.reference_minor]
        for one, path in zip(opened, paths, strict=True)
        for _ in one.stock_rows
    ]
    evaluated = iter(kernel.evaluate(rows, prices))
    worths: list[tuple[float, float] | None] = []
    for one in opened:
        found = [next(evaluated) for _ in one.stock_rows]
        if not found or not all(at.finite for at in found):
            worths.append(None)
            continue
        now, after_one, after_all = found
        quantity = one.wanted.request.quantity
        worths.append(
            (
                bulk.worth_per_unit(now, after_one, 1),
                bulk.worth_per_unit(now, after_all, quantity),
            )
        )
    return worths


def _settled(one: Open, path: _Path, ratio: float, worth: float | None) -> Found:
    """Guards and rounding on the way to a whole price. Raises InputError."""
    wanted, basis, posed, allowed, _ = one
    if not path.path.finite:
        return _last_good(one, ("held: the objective is not finite",))
    request, rounding = wanted.request, guards.rounding_of(posed.policy.guards)
    price_minor, moved, flags = whole(path.aim_minor * ratio, allowed, rounding)
    reservation = None
    if request.quantity > 1:
        lowest = bulk.reservation(posed.full, worth or 0.0)
        reservation = None if lowest is None else lowest * posed.reference_minor
    if not request.reckons:
        stopped = _gate(one, price_minor)
        if stopped:
            return _last_good(one, stopped)
    if request.quantity > 1 and posed.stock_units is None:
        flags += ("stock is unlimited: the quantity moves nothing",)
    if reservation is not None and price_minor < reservation:
        flags += (BELOW_RESERVATION,)
    quote = standing.quoted(
        basis, request, L3, price_minor,
        guards=moved, flags=flags, reservation_minor=reservation,
    )  # fmt: skip
    return Found(quote, basis.until_ms, basis.stamp)


def _last_good(one: Open, held: tuple[str, ...]) -> Found:
    """The price in force instead of one that may not be quoted. Raises InputError."""
    basis = replace(one.basis, held=held)
    return Found(*standing.in_force_quote(basis, one.wanted.request, L3), basis.stamp)


class Whole(NamedTuple):
    """A whole price, the guards that moved it there, and flags of the rules that gave way."""

    price_minor: int
    moved: tuple[str, ...]
    gave_way: tuple[str, ...]


def whole(aim_minor: float, allowed: guards.Feasible, rounding: guards.Rounding) -> Whole:
    """The whole price of an aim inside the guards.

    An aim that is allowed as it is (the price in force) stays, whatever its ending.
    """
    price_minor, moves = int(aim_minor), tuple[guards.Move, ...]()
    if price_minor != aim_minor or guards.violations(price_minor, allowed, rounding.tick_minor):
        moves = guards.clamp(aim_minor, allowed)
        after = moves[-1].after_minor if moves else aim_minor
        price_minor = guards.round_price(after, allowed, rounding)
    ending = () if guards.ends_well(price_minor, rounding) else ("ending",)
    return Whole(
        price_minor,
        tuple(move.guard for move in moves),
        tuple(f"gave way: {name}" for name in (*allowed.gave_way, *ending)),
    )


def _gate(one: Open, price_minor: int) -> tuple[str, ...]:
    """What the publisher gate says of a price that could be sold at now."""
    partition, posed = one.wanted.partition, one.posed
    found = gate.check(
        partition.gates.get(posed.state.sku), price_minor, posed.entry.currency,
        partition.gate_rules, partition.gates, posed.request.clock_ms, posed.request.now_ms,
        partition.policy.emergency_caps,
    )  # fmt: skip
    return tuple(f"{standing.HELD}{reason}" for reason in found)


# -- segments


def _wishes(kernel: Kernel, opened: list[Open]) -> list[tuple[discounts.Wish, ...]]:
    """The segments' best prices, for the quotes that ask for a segment."""
    by_partition: dict[int, list[int]] = {}
    for place, one in enumerate(opened):
        if one.wanted.request.segment is not None:
            by_partition.setdefault(one.wanted.partition.manifest.partition, []).append(place)
    found: list[tuple[discounts.Wish, ...]] = [()] * len(opened)
    for places in by_partition.values():
        partition = opened[places[0]].wanted.partition
        wished = discounts.wishes(partition, kernel, [opened[place].posed for place in places])
        for place, wishes in zip(places, wished, strict=True):
            found[place] = wishes
    return found


def _discounted(
    one: Open, path: PricePath, found: Found, wishes: tuple[discounts.Wish, ...]
) -> Found:
    """The segment's discount off a quote that was reckoned, where one may be given at all."""
    quote, segment = found.quote, one.wanted.request.segment
    if segment is None or any(flag.startswith(standing.HELD) for flag in quote.flags):
        return found
    wish = next((wish for wish in wishes if wish.segment == segment), None)
    price_minor = None
    if wish is not None and path.aim != EXPERT and one.posed.breaker.state == breaker.CLOSED:
        at_quote = replace(one.posed.state, published_minor=quote.price_minor)
        posed = one.posed._replace(state=at_quote, allowed=one.allowed)
        price_minor = discounts.discounted_minor(one.posed.policy, posed, wish)
    if price_minor is None:
        flags = (*quote.flags, standing.no_discount(segment))
        return found._replace(quote=replace(quote, flags=flags))
    return found._replace(
        quote=replace(
            quote,
            price_minor=price_minor,
            discount_minor=quote.price_minor - price_minor,
            disclosure=one.posed.policy.discounts.disclosure,
        )
    )
