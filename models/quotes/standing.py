"""What holds for a product when a quote is asked for: price in force, breakers, how long."""

from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from models.breaker import breaker
from models.fold.partition import PartitionState
from schemas.errors import InputError
from schemas.events import DAY_MS, rfc3339, time_ms
from schemas.policy import BreakerPolicy
from schemas.quotes import Quote, QuoteRequest
from schemas.state import CatalogueEntry, Offer, SkuState

POLICY_DIGITS = 16
HELD = "held: "


class InForce(Struct, frozen=True, array_like=True):
    """The effective price that shops show."""

    price_minor: int
    price_id: str
    version: int
    currency: str
    valid_until: str | None = None


class Stamp(Struct, frozen=True, array_like=True):
    """What an answer rests on: it is good while this is the same.

    The product's last decision, stock, breakers (its own, its family's, the catalogue's), policy,
    and the kill switch.
    """

    version: int
    on_hand: int | None
    breakers: tuple[str, str, str]
    policy: str
    switch: str | None = None


class Known(NamedTuple):
    """A product that may be quoted."""

    state: SkuState
    entry: CatalogueEntry
    now_ms: int


class Basis(Struct, frozen=True, array_like=True, kw_only=True):
    """What any quote of a product rests on, as of a cut of the state.

    ``held``: why it may not move. ``until_ms``: when what is reckoned on it no longer holds, though
    nothing new is known.
    """

    sku: str
    stamp: Stamp
    in_force: InForce | None
    currency: str
    as_of_ms: int
    until_ms: int
    held: tuple[str, ...]
    offers: dict[str, Offer]
    disclosure: str | None


class Timed(NamedTuple):
    """A quote, and until when it holds (event time)."""

    quote: Quote
    until_ms: int


def stamp_of(partition: PartitionState, sku: str) -> Stamp | None:
    """The stamp of a product as it is now; None for one that is not known."""
    state, entry = partition.skus.get(sku), partition.catalogue.get(sku)
    if state is None or entry is None:
        return None
    return Stamp(
        state.version,
        None if state.stock is None else state.stock.on_hand,
        (
            state.breaker.state,
            partition.family_breaker(entry.family).state,
            partition.catalogue_breaker.state,
        ),
        partition.policy_sha256[:POLICY_DIGITS],
        partition.manifest.kill_switch,
    )


def known(partition: PartitionState, sku: str) -> Known:
    """The product, at the tape's clock.

    Raises
    ------
    InputError : it is not known or retired, or the kill switch is thrown
    """
    state, entry = partition.skus.get(sku), partition.catalogue.get(sku)
    if state is None or entry is None:
        raise unknown_sku(sku)
    if entry.retired:
        raise InputError("retired", f"{sku} is retired.", field="sku", value=sku)
    switch = partition.manifest.kill_switch
    if switch is not None:
        raise kill_switch(switch)
    return Known(state, entry, now_ms(partition, state))


def unknown_sku(sku: str) -> InputError:
    """No product of that name was ever listed."""
    return InputError(
        "unknown_sku", f"{sku} was never listed.", field="sku", value=sku,
        expected="a SKU of the catalogue",
    )  # fmt: skip


def kill_switch(reason: str) -> InputError:
    """Nobody is quoted anything while the kill switch is thrown."""
    return InputError(
        "kill_switch", f"the kill switch is thrown: {reason}.",
        fix="Keep the prices that are shown; ask again when it is released.",
    )  # fmt: skip


def now_ms(partition: PartitionState, state: SkuState) -> int:
    """The tape's clock; before the first tick the product's last publication."""
    clock_ms = partition.manifest.clock_ms
    return clock_ms if clock_ms is not None else state.published_ms or 0


def basis_of(partition: PartitionState, sku: str, in_force: InForce | None) -> Basis:
    """The basis of a product's quotes. Raises InputError as `known` does."""
    found = known(partition, sku)
    policy = partition.policy_of(found.entry)
    offers, stamp = partition.offers.get(sku), stamp_of(partition, sku)
    assert stamp is not None  # it is known
    return Basis(
        sku=sku,
        stamp=stamp,
        in_force=in_force,
        currency=found.entry.currency,
        as_of_ms=found.now_ms,
        until_ms=_until_ms(partition, found, policy.breaker),
        held=_holding(partition, found, policy.breaker),
        offers={} if offers is None else offers.standing,
        disclosure=policy.discounts.disclosure,
    )


def _holding(partition: PartitionState, found: Known, policy: BreakerPolicy) -> tuple[str, ...]:
    """Why only the last good price may be quoted: breakers that are open."""
    state, entry, at_ms = found
    own = breaker.cooled_down(state.breaker, at_ms, policy)
    above = partition.family_breaker(entry.family), partition.catalogue_breaker
    named = zip(("", "family ", "catalogue "), (own, *above), strict=True)
    return tuple(
        f"{HELD}{name}breaker: {reason}"
        for name, one in named
        if one.state == breaker.OPEN
        for reason in one.reasons or ("open",)
    )


def _until_ms(partition: PartitionState, found: Known, policy: BreakerPolicy) -> int:
    """The end of the event day (the day's step), of a breaker's cool-down, the next beginning
    or end of a promotion or a cap.
    """
    state, _, at_ms = found
    ends = [(at_ms // DAY_MS + 1) * DAY_MS]
    window = partition.windows.get(state.sku)
    for promotion in window.promotions if window is not None else ():
        ends += [edge for edge in (promotion.from_ms, promotion.to_ms) if edge > at_ms]
    for cap in partition.policy.emergency_caps:
        edges = time_ms(cap.from_time), time_ms(cap.expires_at)
        ends += [edge for edge in edges if edge > at_ms]
    cooled = breaker.cool_down_ends_ms(state.breaker, policy)
    if cooled is not None and cooled > at_ms:
        ends.append(cooled)
    return min(ends)


# -- quotes that need no reckoning


def quoted(
    basis: Basis,
    request: QuoteRequest,
    tier: str,
    price_minor: int,
    *,
    bound: float = 0.0,
    guards: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
    reservation_minor: float | None = None,
) -> Quote:
    """The quote of a price that was reckoned by a tier."""
    price = basis.in_force
    return Quote(
        sku=basis.sku,
        price_minor=price_minor,
        currency=basis.currency,
        quantity=request.quantity,
        tier=tier,
        source=tier,
        error_bound=bound,
        version=basis.stamp.version,
        price_id=None if price is None else price.price_id,
        list_price_minor=None if price is None else price.price_minor,
        as_of=rfc3339(basis.as_of_ms),
        valid_until=rfc3339(basis.until_ms),
        guards=guards,
        flags=flags,
        reservation_minor=reservation_minor,
    )


def needs_no_reckoning(basis: Basis, request: QuoteRequest) -> bool:
    """Whether the price in force is the answer: nothing else was asked, or it may not move."""
    plain = request.quantity == 1 and not request.reckons
    return bool(basis.held) or (plain and basis.in_force is not None)


def in_force_quote(basis: Basis, request: QuoteRequest, tier: str) -> Timed:
    """The price in force, less the discount that stands for the segment.

    Of a product that is held: the last good price, whatever was asked.

    Raises
    ------
    InputError : no price is in force
    """
    price = basis.in_force
    if price is None:
        raise InputError(
            "held", f"{basis.sku} has no price in force, and is {'; '.join(basis.held)}.",
            field="sku", value=basis.sku,
        )  # fmt: skip
    until_ms = basis.until_ms
    if price.valid_until is not None:
        until_ms = max(time_ms(datetime.fromisoformat(price.valid_until)), basis.as_of_ms)
    quote = quoted(basis, request, tier, price.price_minor, flags=basis.held)
    quote = replace(quote, valid_until=price.valid_until)
    if request.segment is None or basis.held:
        return Timed(quote, until_ms)
    offer = basis.offers.get(request.segment)
    stands = offer is not None and basis.as_of_ms < offer.until_ms
    if offer is None or not stands or offer.list_price_minor != price.price_minor:
        return Timed(replace(quote, flags=(no_discount(request.segment),)), until_ms)
    until_ms = min(until_ms, offer.until_ms)
    quote = replace(
        quote,
        price_minor=price.price_minor - offer.amount_minor,
        discount_minor=offer.amount_minor,
        disclosure=basis.disclosure,
        valid_until=rfc3339(until_ms),
    )
    return Timed(quote, until_ms)


def no_discount(segment: str) -> str:
    """The flag that says so."""
    return f"no discount for segment {segment}"
