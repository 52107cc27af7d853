"""Announced reductions and emergency caps in the fold: what they ask of a price, and when.

While an announced reduction runs, a price is at most ``(1 - depth)`` of the prior price of every
market; while an emergency cap holds, at most ``ratio`` of the lowest price of the 30 days before.
Their beginnings and ends ask for a decision at the first tick at or after them.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from msgspec.structs import replace

from models.fold.holds import subject_of
from models.fold.partition import PartitionState
from models.guards import prior_price
from models.guards.guards import Bound
from schemas.events import rfc3339, time_ms
from schemas.policy import EmergencyCap
from schemas.prior_prices import PriorPriceView
from schemas.scopes import selects
from schemas.state import CatalogueEntry, PriceWindow, Promotion, SkuState

ANNOUNCED: Final = "announced_reduction"
PROMOTIONS_MAX = 64  # of one product: running, to come and of the last weeks


class Present(NamedTuple):
    """What promotions and caps ask of a product's price now; minor units, None: nothing.

    ``return_minor`` is the price before announced reductions that have ended since the last
    publication: the way back to it is no step. ``unfounded``: a reduction is announced, and no
    price was shown before it.
    """

    views: tuple[PriorPriceView, ...] = ()
    announced_minor: int | None = None
    cap_minor: int | None = None
    return_minor: int | None = None
    unfounded: bool = False


NOTHING = Present()


def present(
    partition: PartitionState, state: SkuState, entry: CatalogueEntry, now_ms: int
) -> Present:
    """What holds for a product at an event time."""
    window = partition.windows[state.sku]
    caps = _caps(partition, entry)
    if not window.promotions and not caps:
        return NOTHING
    views, bounds, unfounded = [], [], False
    rules = prior_price.applying(partition.prior_rules, entry.category)
    for found in _running(window, now_ms):
        for rule in rules:
            prior = prior_price.prior_minor(window, found, rule)
            if prior is None:
                unfounded = True
                continue
            bounds.append(prior_price.reduced_minor(prior, found.depth))
            views.append(
                PriorPriceView(
                    market=rule.market,
                    prior_minor=prior,
                    depth=found.depth,
                    highest_minor=bounds[-1],
                    from_time=rfc3339(found.from_ms),
                    to_time=rfc3339(found.to_ms),
                    promotion=found.kind,
                )
            )
    cap_bounds = [
        int(base * Decimal(str(cap.ratio)))
        for cap in caps
        if time_ms(cap.from_time) <= now_ms < time_ms(cap.expires_at)
        and (base := _cap_base(partition, window, cap)) is not None
    ]
    before = [
        found.before_minor
        for found in window.promotions
        if found.announced
        and found.before_minor is not None
        and found.to_ms <= now_ms
        and (state.published_ms or 0) < found.to_ms
    ]
    return Present(
        views=tuple(views),
        announced_minor=min(bounds, default=None),
        cap_minor=min(cap_bounds, default=None),
        return_minor=max(before, default=None),
        unfounded=unfounded,
    )


def bounds(asked: Present) -> tuple[Bound, ...]:
    """What promotions and caps ask, as guards."""
    found = ((ANNOUNCED, asked.announced_minor), ("emergency_cap", asked.cap_minor))
    return tuple(Bound(guard, 0.0, price) for guard, price in found if price is not None)


def _running(window: PriceWindow, now_ms: int) -> list[Promotion]:
    return [
        found
        for found in window.promotions
        if found.announced and found.from_ms <= now_ms < found.to_ms
    ]


def _caps(partition: PartitionState, entry: CatalogueEntry) -> list[EmergencyCap]:
    caps = partition.policy.emergency_caps
    if not caps:
        return []
    subject = subject_of(entry)
    return [cap for cap in caps if selects(cap.select, subject)]


def _cap_key(cap: EmergencyCap) -> str:
    return f"{time_ms(cap.from_time)} {cap.name}"


def _cap_base(partition: PartitionState, window: PriceWindow, cap: EmergencyCap) -> int | None:
    known = window.cap_base_minor.get(_cap_key(cap))
    if known is not None:
        return known
    from_ms = time_ms(cap.from_time)
    opens_ms = min(
        prior_price.window_opens_ms(from_ms, prior_price.CAP_DAYS, rule.zone)
        for rule in partition.prior_rules
    )
    return prior_price.lowest_since(window, opens_ms)


def shown(
    partition: PartitionState,
    state: SkuState,
    entry: CatalogueEntry,
    price_minor: int,
    now_ms: int,
) -> None:
    """Note the price that buyers see from now on; caps that have begun keep their base."""
    window = partition.windows[state.sku]
    caps = _caps(partition, entry)
    if caps or window.cap_base_minor:
        begun = [cap for cap in caps if time_ms(cap.from_time) <= now_ms]
        bases = {_cap_key(cap): _cap_base(partition, window, cap) for cap in begun}
        window.cap_base_minor = {key: base for key, base in bases.items() if base is not None}
    prior_price.show(window, price_minor, now_ms, partition.prior_rules)
    partition.touch(f"window/{state.sku}")


# -- promotions are scheduled


def plan(partition: PartitionState, state: SkuState, planned: Promotion, now_ms: int) -> None:
    """Remember a planned reduction.

    One of the same kind and beginning replaces the one before it; not announced, it withdraws it.
    """
    window, kept = partition.windows[state.sku], []
    for found in window.promotions:
        if (found.kind, found.from_ms) != (planned.kind, planned.from_ms):
            kept.append(found)
        else:
            planned = replace(
                planned, prior_minor=found.prior_minor, before_minor=found.before_minor
            )
    window.promotions = tuple(sorted([*kept, planned], key=lambda found: found.from_ms))
    prior_price.begin_promotions(window, now_ms, partition.prior_rules)
    partition.touch(f"window/{state.sku}")


def exogenous_log(partition: PartitionState, sku: str, now_ms: int) -> float:
    """The exogenous part of a price that the calendar, not demand, explains."""
    for found in partition.windows[sku].promotions:
        if found.from_ms <= now_ms < found.to_ms:
            return found.log_depth
    return 0.0


# -- beginnings and ends


def next_edge_ms(partition: PartitionState, state: SkuState) -> int | None:
    """When a promotion or a cap next begins or ends that no tick has seen to yet."""
    window = partition.windows[state.sku]
    edges = [at_ms for at_ms, _ in _edges(partition, window) if at_ms > window.looked_ms]
    return min(edges, default=None)


def passed_edge(partition: PartitionState, state: SkuState, now_ms: int) -> str | None:
    """See to the beginnings and ends up to now; what the first of them was, None without any."""
    window = partition.windows[state.sku]
    passed = [edge for edge in _edges(partition, window) if window.looked_ms < edge[0] <= now_ms]
    if not passed:
        return None
    window.looked_ms = now_ms
    partition.touch(f"window/{state.sku}")
    return min(passed)[1]


def _edges(partition: PartitionState, window: PriceWindow) -> Iterator[tuple[int, str]]:
    for found in window.promotions:
        if found.announced:
            yield found.from_ms, "promotion begins"
            yield found.to_ms, "promotion ends"
    for cap in _caps(partition, partition.catalogue[window.sku]):
        yield time_ms(cap.from_time), "emergency cap begins"
        yield time_ms(cap.expires_at), "emergency cap ends"


# -- what is announced and does not hold


def broken_promise(
    partition: PartitionState, state: SkuState, asked: Present, seen_minor: int | None, now_ms: int
) -> tuple[str, dict[str, object]] | None:
    """Message and evidence, once a promotion, where buyers see more than what is announced."""
    over = asked.announced_minor is not None and (seen_minor or 0) > asked.announced_minor
    window = partition.windows[state.sku]
    running = _running(window, now_ms)
    if not (over or asked.unfounded) or all(found.warned for found in running):
        return None
    window.promotions = tuple(
        replace(found, warned=True) if found in running else found for found in window.promotions
    )
    partition.touch(f"window/{state.sku}")
    names = ", ".join(sorted({found.kind for found in running}))
    why = (
        f"buyers see {seen_minor}, at most {asked.announced_minor} keeps the announced percentage"
        if over
        else "no price was shown before it, so there is none to reduce"
    )
    message = f"withdraw the announcement of {names} for {state.sku}: {why}"
    return message, {"shown_minor": seen_minor, "highest_minor": asked.announced_minor}
