"""Personal discounts by segment, beside the one list price for all.

The list price is settled first, and by nothing of this module. For each segment that the product's
policy names, the kernel then looks for the price that would be best if all customers were like
those of the segment: elasticity by the segment's part (a pooled offset, learned as that of
channels, `models.demand.channels`), return rate by the segment's own. Where that is below what is
best for all, and below the list price, the difference is offered as a discount.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from models.breaker import breaker
from models.demand import channels
from models.fold.context import Output, Placed, Request
from models.fold.market import log_rival, reschedule
from models.fold.partition import PartitionState
from models.guards import discount_gate, guards
from models.kernel.tile import Kernel
from models.pricing.path import EXPERT, PricePath
from models.pricing.pose import Posed
from models.returns.return_curve import ReturnCurve, curve
from models.returns.return_features import month_of_ms
from schemas import topics
from schemas.codec import canonical
from schemas.effects import Effect
from schemas.events import DAY_MS, rfc3339
from schemas.outputs import DiscountOffered, SegmentView, TapePosition
from schemas.policy import DiscountPolicy, Policy
from schemas.state import Offer, Offers, SkuState

ORDERS_MIN = 200.0  # order lines of a segment that the pool remembers: fewer get no discount
FLOORS = (*guards.FLOORS, "reference_floor")
RENEW_BEFORE_MS = DAY_MS  # the longest time between two rounds


class Wish(NamedTuple):
    """A segment's best price and that of all, minor units, and what they rest on."""

    segment: str
    best_minor: float
    best_of_all_minor: float
    elasticity: float
    effect: Effect
    orders: float
    returns: ReturnCurve


def wishes(
    partition: PartitionState, kernel: Kernel, posed: Sequence[Posed]
) -> list[tuple[Wish, ...]]:
    """Each decision's segments with their best prices; none where the policy names no segment."""
    cases = [_cases(partition, one) for one in posed]
    rows = []
    for one, found in zip(posed, cases, strict=True):
        if found:
            rows.append(one.full)
        for wish in found:
            variance = one.full.elasticity_variance
            if wish.effect.used != 0.0:
                variance += wish.effect.sd**2
            rows.append(
                one.full._replace(
                    elasticity=wish.elasticity,
                    elasticity_variance=variance,
                    return_intercept=wish.returns.intercept,
                    return_log=wish.returns.slope_log,
                    return_rate_sd=wish.returns.sd,
                )
            )
    solutions = iter(kernel.solve(rows))
    solved: list[tuple[Wish, ...]] = []
    for one, found in zip(posed, cases, strict=True):
        if not found:
            solved.append(())
            continue
        of_all = next(solutions)
        priced = [(wish, next(solutions)) for wish in found]
        solved.append(
            tuple(
                wish._replace(
                    best_minor=best.price * one.reference_minor,
                    best_of_all_minor=of_all.price * one.reference_minor,
                )
                for wish, best in priced
                if best.finite and of_all.finite
            )
        )
    return solved


def _cases(partition: PartitionState, posed: Posed) -> tuple[Wish, ...]:
    """The segments that may be priced: named, of many orders, and of a product known by its own."""
    policy = partition.policy_of(posed.entry)
    if posed.posterior.orders < policy.breaker.established_orders:
        return ()
    found = []
    for segment in sorted(set(policy.discounts.segments)):
        orders = math.fsum(partition.segments.counts.get(segment, ()))
        effect = partition.segments.effects.get(segment)
        if effect is None or orders < ORDERS_MIN or segment == channels.OTHER:
            continue
        returns = curve(
            partition.return_snapshot,
            posed.state.returns,
            posed.entry.category,
            month=month_of_ms(posed.request.now_ms),
            ln_rival=log_rival(posed.state, posed.rivals),
            r_max=policy.objective.return_rate_max,
            segment=segment,
        )
        elasticity = posed.full.elasticity + effect.used
        found.append(Wish(segment, 0.0, 0.0, elasticity, effect, orders, returns))
    return tuple(found)


def settle(
    partition: PartitionState,
    posed: Posed,
    path: PricePath,
    wished: Sequence[Wish],
    settled: Sequence[Placed],
) -> list[Placed]:
    """Offer, renew or withdraw a product's discounts after its decision.

    Parameters
    ----------
    settled : the decision's outputs; a price that was held has no discount
    """
    state, request = posed.state, posed.request
    if not wished and state.sku not in partition.offers:
        return []
    published = any(found.output.topic == topics.PRICES_LATEST.name for found in settled)
    if not published or path.aim == EXPERT or state.breaker.state != breaker.CLOSED:
        reason = "the list price is held" if not published else "the list price is a rule's"
        return withdraw(partition, request, reason)
    policy = partition.policy_of(posed.entry)
    standing = _standing(partition, state.sku)
    by_segment = {wish.segment: wish for wish in wished}
    outputs, kept = [], {}
    for segment in sorted({*standing, *by_segment}):
        wish, old = by_segment.get(segment), standing.get(segment)
        discounted = None if wish is None else discounted_minor(policy, posed, wish)
        event = None
        if wish is not None and discounted is not None:
            event = _offered(partition, policy.discounts, posed, wish, discounted)
            refused = discount_gate.check(
                event,
                partition.gates.get(state.sku),
                partition.guards_of(posed.entry),
                policy.discounts,
            )
            event = None if refused else event
        if event is None:
            if old is not None:
                outputs.append(_withdrawn(partition, request, segment, "it no longer pays"))
            continue
        offer = _offer(event, policy.discounts, request.now_ms)
        if old is not None and _still_holds(old, offer, request.now_ms):
            kept[segment] = old
            continue
        kept[segment] = offer
        outputs.append(_placed(request, event))
    _keep(partition, state, kept)
    return outputs


def _still_holds(old: Offer, new: Offer, now_ms: int) -> bool:
    same = (old.amount_minor, old.list_price_minor) == (new.amount_minor, new.list_price_minor)
    return same and now_ms < old.renew_ms


def discounted_minor(policy: Policy, posed: Posed, wish: Wish) -> int | None:
    """The segment's price in whole ticks, rounded up to the safe side; None: no discount.

    What the list price lacks to the best price of all, by guards or exploration, is no reason for
    a discount: it is as deep as the segment's best price is below both.
    """
    list_minor, limits = posed.state.published_minor, policy.discounts
    if list_minor is None:
        return None
    target = max(wish.best_minor, list_minor * wish.best_minor / wish.best_of_all_minor)
    lowest = max(floor_minor(posed), list_minor * (1.0 - limits.depth_ratio_max))
    tick = policy.guards.tick_minor
    discounted = math.ceil(max(target, lowest) / tick) * tick
    if discounted > list_minor * (1.0 - limits.depth_ratio_min):
        return None
    return discounted


def floor_minor(posed: Posed) -> float:
    """The highest of the floors that hold for the product, minor units."""
    floors = [bound.low_minor for bound in posed.allowed.active if bound.guard in FLOORS]
    return max(floors, default=math.inf)


def _offered(
    partition: PartitionState, limits: DiscountPolicy, posed: Posed, wish: Wish, discounted: int
) -> DiscountOffered:
    request, list_minor = posed.request, posed.state.published_minor or 0
    ln_price = math.log(discounted / posed.reference_minor)
    evidence = SegmentView(
        orders=math.floor(wish.orders),
        elasticity=wish.elasticity,
        elasticity_beside_average=wish.effect.mean,
        elasticity_beside_average_sd=wish.effect.sd,
        return_rate=wish.returns.rate(ln_price),
        return_rate_of_all=posed.curve.rate(ln_price),
        best_price_minor=wish.best_minor,
        best_price_of_all_minor=wish.best_of_all_minor,
        floor_minor=floor_minor(posed),
        unit_cost_minor=posed.unit_cost_minor,
        kept_share=posed.entry.kept_share,
    )
    return DiscountOffered(
        discount_id=_id(partition, request, wish.segment),
        sku=request.sku,
        segment=wish.segment,
        status="offered",
        amount_minor=list_minor - discounted,
        currency=posed.entry.currency,
        list_price_minor=list_minor,
        discounted_minor=discounted,
        market=limits.market,
        disclosure=limits.disclosure,
        valid_from=rfc3339(request.now_ms),
        valid_until=rfc3339(request.now_ms + _valid_ms(limits)),
        reasons=_reasons(limits, wish, list_minor, discounted, evidence.floor_minor),
        evidence=evidence,
        tape=TapePosition(partition.manifest.partition, request.offset),
        engine=partition.engine,
        policy_sha256=partition.policy_sha256,
    )


def _reasons(
    limits: DiscountPolicy, wish: Wish, list_minor: int, discounted: int, floor: float
) -> tuple[str, ...]:
    found = [f"best price {wish.best_minor / wish.best_of_all_minor - 1.0:+.1%} beside that of all"]
    if discounted > max(wish.best_minor, list_minor * wish.best_minor / wish.best_of_all_minor) + 1:
        deepest = list_minor * (1.0 - limits.depth_ratio_max)
        found.append("limited by the floor" if floor > deepest else "limited by the policy's depth")
    return tuple(found)


def _valid_ms(limits: DiscountPolicy) -> int:
    return int(limits.valid_days * DAY_MS)


def _offer(event: DiscountOffered, limits: DiscountPolicy, now_ms: int) -> Offer:
    valid_ms = _valid_ms(limits)
    return Offer(
        amount_minor=event.amount_minor,
        list_price_minor=event.list_price_minor or 0,
        until_ms=now_ms + valid_ms,
        renew_ms=now_ms + max(valid_ms - RENEW_BEFORE_MS, valid_ms // 2),
    )


def withdraw(partition: PartitionState, request: Request, reason: str) -> list[Placed]:
    """Withdraw all of a product's standing discounts."""
    standing = _standing(partition, request.sku)
    found = [_withdrawn(partition, request, segment, reason) for segment in sorted(standing)]
    _keep(partition, partition.skus[request.sku], {})
    return found


def _withdrawn(partition: PartitionState, request: Request, segment: str, reason: str) -> Placed:
    entry = partition.catalogue[request.sku]
    limits = partition.policy_of(entry).discounts
    event = DiscountOffered(
        discount_id=_id(partition, request, segment),
        sku=request.sku,
        segment=segment,
        status="withdrawn",
        amount_minor=0,
        currency=entry.currency,
        list_price_minor=partition.skus[request.sku].published_minor,
        discounted_minor=None,
        market=limits.market,
        disclosure=None,
        valid_from=rfc3339(request.now_ms),
        valid_until=None,
        reasons=(reason,),
        evidence=None,
        tape=TapePosition(partition.manifest.partition, request.offset),
        engine=partition.engine,
        policy_sha256=partition.policy_sha256,
    )
    return _placed(request, event)


def renewal_is_due(partition: PartitionState, state: SkuState, now_ms: int) -> bool:
    """Whether a standing discount is to be looked at before it ends."""
    return any(now_ms >= offer.renew_ms for offer in _standing(partition, state.sku).values())


def _standing(partition: PartitionState, sku: str) -> dict[str, Offer]:
    offers = partition.offers.get(sku)
    return {} if offers is None else offers.standing


def _keep(partition: PartitionState, state: SkuState, kept: dict[str, Offer]) -> None:
    """Remember what stands now, and when it is to be looked at."""
    if kept == _standing(partition, state.sku):
        return
    if kept:
        partition.offers[state.sku] = Offers(sku=state.sku, standing=kept)
    else:
        del partition.offers[state.sku]
    partition.touch(f"offers/{state.sku}")
    if not partition.catalogue[state.sku].retired:
        reschedule(partition, state)


def _id(partition: PartitionState, request: Request, segment: str) -> str:
    return f"{partition.manifest.partition}-{request.offset}-{request.sku}-{segment}"


def _placed(request: Request, event: DiscountOffered) -> Placed:
    output = Output(topics.DISCOUNTS.name, event.sku.encode(), canonical(event))
    return Placed(request.offset, output)
