"""Families in the fold: the decisions that one record asks for, posed together with their family.

When a decision on a member of a family is asked for, all members are posed at that place of the
tape, their prices are chosen together inside what each one's guards allow, and the member's row
learns what its partners will earn as its own price moves. A member whose present price is further
from the joint optimum than a change costs is decided in the same wave (trigger ``family``); the
others stay. Members that may not move by themselves (the breaker is open, the product is not
known yet, a person's answer is awaited) stand where they are.

A family of one, and one in which nothing is known of any partner, is posed product by product.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from models.breaker import breaker, breaker_scopes
from models.family import family_book, ladders
from models.family.family_bound import bounded
from models.family.family_demand import BudgetChoice, BudgetGroup, Budgets, profits
from models.family.family_ladders import Link
from models.family.family_pricing import Family, Joint, family_of, joint_optimum
from models.family.family_profit import Floats
from models.family.family_terms import Together, gains_of_moving, member_of, row_with_partners
from models.fold.context import Request
from models.fold.partition import PartitionState
from models.kernel.objective import Row
from models.pricing.path import is_unproven
from models.pricing.pose import Posed, pose
from schemas.outputs import FamilyView, PartnerView
from schemas.policy import Ladder

TRIGGER = "family"
BELOW = 1e-6  # a price nearer than this to its floor is at it

Asked = tuple[Request, Posed | str]


class _Ties(NamedTuple):
    """What binds a family: effects by (product, partner), its budgets, its ladders."""

    effects: dict[tuple[str, str], float]
    budgets: Budgets | None
    ladders: tuple[Ladder, ...]


class _Problem(NamedTuple):
    """The members that take part, in the order of SKUs, and the family as the search has it."""

    posed: list[Posed]
    free: list[bool]
    now: Floats  # [n], ln P/P_ref that buyers see
    family: Family


def asked(partition: PartitionState, requests: Iterable[Request]) -> Iterator[Asked]:
    """Pose the decisions that one record asks for, and those of their families.

    A request whose product cannot be priced comes with the reason.
    """
    by_family: dict[str, list[Request]] = {}
    for request in requests:
        family = partition.catalogue[request.sku].family
        by_family.setdefault(family, []).append(request)
    for family, together in by_family.items():
        members = partition.families[family]
        ties = _ties(partition, members) if len(members) > 1 else None
        if ties is None:
            yield from ((one, pose(partition, one)) for one in together)
        else:
            yield from _together(partition, members, together, ties)


def _ties(partition: PartitionState, members: Sequence[str]) -> _Ties | None:
    name = partition.catalogue[members[0]].family
    living = [sku for sku in members if not partition.catalogue[sku].retired]
    if len(living) < 2:
        return None
    found = {
        pair: effect
        for pair, effect in family_book.used_effects(partition, name).items()
        if effect != 0.0 and pair[0] in living and pair[1] in living
    }
    policy = partition.policy
    groups = next((one.budget_groups for one in policy.families if one.name == name), ())
    budgets = Budgets(
        tuple(BudgetGroup(float(one.budget_minor), one.share, one.budget_sd_log) for one in groups)
    )
    held = tuple(one for one in policy.ladders if sum(sku in living for sku in one.skus) > 1)
    if not (found or groups or held):
        return None
    return _Ties(found, budgets if groups else None, held)


def _together(
    partition: PartitionState,
    members: Sequence[str],
    requests: list[Request],
    ties: _Ties,
) -> Iterator[Asked]:
    own = {request.sku: request for request in requests}
    first = requests[0]
    posed: dict[str, Posed] = {}
    refused: list[Asked] = []
    for sku in members:
        request = own.get(sku) or Request(
            sku, TRIGGER, first.offset, first.now_ms, first.clock_ms, catalogue=first.catalogue
        )
        found = pose(partition, request)
        if isinstance(found, Posed):
            posed[sku] = found
        elif sku in own:
            refused.append((request, found))
    yield from refused
    if len(posed) < 2 or len({one.entry.currency for one in posed.values()}) > 1:
        yield from ((one.request, one) for sku, one in posed.items() if sku in own)
        return
    problem = _problem(partition, list(posed.values()), ties)
    joint = joint_optimum(problem.family)
    waiver = _waiver(partition, problem, joint, ties)
    if waiver is not None:
        problem, joint = waiver.problem, waiver.joint
    moving = _moving(partition, problem, joint, set(own))
    stand = np.where(moving & np.array(problem.free), joint.ln_price, problem.now)
    gap = bounded(problem.family, joint.ln_price, boxes_max=1).gap_ratio
    for index, one in enumerate(problem.posed):
        if moving[index]:
            row = one.full
            if problem.free[index] or ties.budgets is None:
                row = row_with_partners(row, problem.family, joint, stand, index)
            told = _told(problem, joint, stand, index, gap, ties)
            if waiver is not None and one.state.sku in waiver.skus:
                told = replace(
                    told,
                    waived="cost_floor" if _below_cost(one, joint, index) else "margin_floor",
                    waived_gain_per_day_minor=waiver.gain_per_day_minor,
                )
            yield one.request, _with(one, row, Together(one.full, told))


def _with(posed: Posed, row: Row, together: Together) -> Posed:
    """The decision with its row that knows the family, as are those of what it may be."""
    changes = {
        name: value for name, value in row._asdict().items() if value != getattr(posed.full, name)
    }
    own = {name: value for name, value in changes.items() if name != "elasticity"}
    return posed._replace(
        full=posed.full._replace(**changes),
        cases=tuple(case._replace(**own) for case in posed.cases),
        together=together,
    )


def _problem(partition: PartitionState, posed: list[Posed], ties: _Ties) -> _Problem:
    free = [_is_free(partition, one) for one in posed]
    now = np.array([_present(partition, one) for one in posed])
    members = []
    for one, may_move, ln_price in zip(posed, free, now.tolist(), strict=True):
        low = math.log(max(one.allowed.low_minor / one.reference_minor, one.full.lower))
        high = math.log(min(one.allowed.high_minor / one.reference_minor, one.full.upper))
        if not may_move:
            low = high = ln_price
        members.append(member_of(one.full, one.reference_minor, ln_price, low, max(low, high)))
    place = {one.state.sku: index for index, one in enumerate(posed)}
    links = [link for ladder in ties.ladders for link in _links(ladder, place)]
    if ties.budgets is not None:
        family = family_of(members, budgets=ties.budgets, links=links)
        return _Problem(posed, free, now, family)
    cross = np.zeros((len(posed), len(posed)))
    for (sku, partner), effect in ties.effects.items():
        if sku in place and partner in place:
            cross[place[sku], place[partner]] = effect
    return _Problem(posed, free, now, family_of(members, cross, links=links, fading=True))


class _Waiver(NamedTuple):
    """Anchors below their margin's floor, and what the family earns more with them a day."""

    problem: _Problem
    joint: Joint
    skus: frozenset[str]
    gain_per_day_minor: float


def _waiver(
    partition: PartitionState, problem: _Problem, joint: Joint, ties: _Ties
) -> _Waiver | None:
    """Anchors as loss leaders, where the policy lets them and the family earns more with it."""
    waived: dict[str, float] = {}
    again: list[Posed] = []
    for one, free in zip(problem.posed, problem.free, strict=True):
        mode = one.policy.guards.loss_leader
        found: Posed | str = one
        if mode != "off" and one.entry.role == "anchor" and free:
            found = pose(partition, one.request, loss_leader=True)
        if isinstance(found, Posed) and found.allowed.low_minor < one.allowed.low_minor:
            waived[one.state.sku] = one.allowed.low_minor / one.reference_minor
            again.append(found)
        else:
            again.append(one)
    if not waived:
        return None
    other = _problem(partition, again, ties)
    better = joint_optimum(other.family)
    below = frozenset(
        one.state.sku
        for one, x in zip(again, better.ln_price.tolist(), strict=True)
        if one.state.sku in waived and math.exp(x) < waived[one.state.sku] * (1.0 - BELOW)
    )
    gain = better.profit_per_day_minor - joint.profit_per_day_minor
    return _Waiver(other, better, below, gain) if below and gain > 0.0 else None


def _below_cost(posed: Posed, joint: Joint, index: int) -> bool:
    price_minor = posed.reference_minor * math.exp(float(joint.ln_price[index]))
    return price_minor * posed.entry.kept_share < posed.unit_cost_minor


def _links(ladder: Ladder, place: dict[str, int]) -> Iterator[Link]:
    for lower in range(len(ladder.skus) - 1):
        below, above = ladder.skus[lower], ladder.skus[lower + 1]
        if below in place and above in place:
            least, most = ladders.ratios(ladder, lower)
            low = -math.inf if least is None else math.log(least)
            high = math.inf if most is None else math.log(most)
            yield Link(place[below], place[above], low, high)


def _is_free(partition: PartitionState, posed: Posed) -> bool:
    """Whether the family may move a product's price at all."""
    known = posed.state.passport
    return (
        posed.breaker.state == breaker.CLOSED
        and not posed.bounded
        and not breaker_scopes.above(partition, posed)
        and posed.state.pending is None
        and (known is None or known.graduated_ms is not None)
        and not is_unproven(posed)
    )


def _present(partition: PartitionState, posed: Posed) -> float:
    """ln P/P_ref that buyers see, at which partners' effects on demand were taken."""
    member, epoch = partition.members.get(posed.state.sku), posed.state.epoch
    if member is not None:
        return member.clock.ln_price
    return 0.0 if epoch is None else epoch.ln_price


def _moving(
    partition: PartitionState, problem: _Problem, joint: Joint, own: set[str]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Who is decided: what was asked for, and who stands too far from the joint optimum.

    A probe is no distance: it stands beside its optimum on purpose.
    """
    probes = np.array([one.state.published_exogenous_log for one in problem.posed])
    gains, size = gains_of_moving(problem.family, joint, problem.now - probes)
    moving = []
    for index, one in enumerate(problem.posed):
        share = partition.policy_of(one.entry).decision.change_cost_profit_share
        far = problem.free[index] and one.state.published_minor is not None
        low = float(problem.family.ladders.low[index])
        far = far and bool(gains[index] > share * size[index] or problem.now[index] < low - BELOW)
        moving.append(far or one.state.sku in own)
    return np.array(moving)


def _told(
    problem: _Problem, joint: Joint, stand: Floats, index: int, gap: float, ties: _Ties
) -> FamilyView:
    """What the decision record says of the family."""
    family, x = problem.family, joint.ln_price
    by_budget = isinstance(family.demand, BudgetChoice)
    partners = []
    for other, one in enumerate(problem.posed):
        if other == index:
            continue
        does = None if by_budget else float(family.demand.cross[other, index])  # type: ignore[union-attr]
        feels = None if by_budget else float(family.demand.cross[index, other])  # type: ignore[union-attr]
        if not by_budget and does == 0.0 and feels == 0.0:
            continue
        partners.append(
            PartnerView(
                sku=one.state.sku,
                elasticity=does,
                own_elasticity=feels,
                price_minor=one.reference_minor * math.exp(float(stand[other])),
                cross_gamma_per_day_minor=float(joint.cross_gamma[index, other]),
            )
        )
    reference = problem.posed[index].reference_minor
    return FamilyView(
        demand="budget groups" if by_budget else "elasticities",
        joint_price_minor=reference * math.exp(float(x[index])),
        partners=tuple(partners),
        partner_profit_slope_per_day_minor=float(joint.partner_slope[index]),
        joint_profit_per_day_minor=joint.profit_per_day_minor,
        present_profit_per_day_minor=float(profits(family.columns, family.demand, problem.now)),
        gap_ratio=gap,
        starts_agree=joint.starts_agree,
        ladders=tuple(one.name for one in ties.ladders),
        ladders_kept=joint.ladders_kept,
    )
