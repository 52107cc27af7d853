"""What holds for a product when a quote is asked for: price in force, breakers, how long."""

from typing import NamedTuple

from msgspec import Struct

from models.breaker import breaker
from models.fold.partition import PartitionState
from schemas.errors import InputError
from schemas.events import DAY_MS, time_ms
from schemas.policy import BreakerPolicy
from schemas.state import CatalogueEntry, SkuState

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


def holding(partition: PartitionState, found: Known, policy: BreakerPolicy) -> tuple[str, ...]:
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


def good_until_ms(partition: PartitionState, found: Known, policy: BreakerPolicy) -> int:
    """When what is reckoned now no longer holds though nothing new is known.

    The end of the event day (the day's step), the next beginning or end of a promotion, the end of
    a breaker's cool-down.
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
