"""What in a valid policy document is likely not meant: rules that rule nothing, or contradict.

Types and bounds are `schemas.scopes.parse_policy`'s. Nothing here refuses a document.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, convert, to_builtins

from schemas.policy import GuardPolicy, Ladder, Policy, Selector
from schemas.scopes import PolicyDocument, Scope, Subject, selects


class Finding(Struct, frozen=True, kw_only=True):
    """Something to look at: where in the document, what, and how to mend it."""

    code: str
    where: str
    message: str
    fix: str


def findings(document: PolicyDocument, subjects: tuple[Subject, ...] = ()) -> tuple[Finding, ...]:
    """What is likely not meant, in the order of the document.

    Parameters
    ----------
    subjects : the products on sale, where they are known: then selectors are held against them
    """
    base, scopes = document.base, document.scopes
    found = [*_of_guards(base.guards, "guards"), *_of_objective(base), *_of_approval(base)]
    found += [one for index, ladder in enumerate(base.ladders) for one in _of_ladder(index, ladder)]
    for index, scope in enumerate(scopes):
        found += _of_scope(index, scope, scopes, base)
        if subjects and not any(selects(scope.select, subject) for subject in subjects):
            found.append(
                Finding(
                    code="matches_nothing",
                    where=f"scopes[{index}].select",
                    message="the scope selects no product on sale",
                    fix="Compare its names with the catalogue's; upper and lower case count.",
                )
            )
    return tuple(found)


def _of_guards(guards: GuardPolicy, where: str) -> Iterator[Finding]:
    if guards.step_ratio_max > guards.day_step_ratio_max:
        yield Finding(
            code="step_beyond_day",
            where=f"{where}.step_ratio_max",
            message=f"a step of {guards.step_ratio_max:g} is more than a day's "
            f"{guards.day_step_ratio_max:g}, so the day's limit is the one that holds",
            fix="Lower step_ratio_max, or raise day_step_ratio_max.",
        )
    if guards.step_ratio_min >= guards.step_ratio_max:
        yield Finding(
            code="no_step_fits",
            where=f"{where}.step_ratio_min",
            message=f"no step is both {guards.step_ratio_min:g} or more and at most "
            f"{guards.step_ratio_max:g}: prices stay as they are",
            fix="Set step_ratio_min below step_ratio_max.",
        )
    for low, high in (
        ("competitor_index_min", "competitor_index_max"),
        ("stock_cover_days_min", "stock_cover_days_max"),
    ):
        least, most = getattr(guards, low), getattr(guards, high)
        if least is not None and most is not None and least > most:
            yield Finding(
                code="minimum_above_maximum",
                where=f"{where}.{low}",
                message=f"{low} {least:g} is above {high} {most:g}: one of the two gives way "
                "in every decision",
                fix=f"Set {low} to {most:g} or less.",
            )


def _of_objective(base: Policy) -> Iterator[Finding]:
    if base.objective.rival_response:
        yield Finding(
            code="rival_response",
            where="objective.rival_response",
            message="prices will allow for rivals that follow ours, which is how tacit collusion "
            f"starts; cleared by: {base.objective.rival_response_legal_note}",
            fix="Publish only if that note is true today.",
        )
    lawful = any(market.sale_below_cost_lawful for market in base.markets.values())
    if base.guards.loss_leader == "cost_floor" and not lawful:
        yield Finding(
            code="below_cost_unlawful",
            where="guards.loss_leader",
            message="no market says that selling below cost is lawful, so the cost floor is never "
            "waived",
            fix='Use loss_leader = "margin_floor", or set sale_below_cost_lawful where it is.',
        )
    for name in base.guards.minimum_resale_price_markets:
        if base.markets and name not in base.markets:
            yield Finding(
                code="market_not_declared",
                where="guards.minimum_resale_price_markets",
                message=f"{name} is none of the document's markets",
                fix=f"Add [markets.{name}], or take the name out.",
            )


def _of_approval(base: Policy) -> Iterator[Finding]:
    asked, floor = base.approval.margin_ratio_min, base.guards.margin_floor_ratio
    if asked is not None and asked <= floor:
        yield Finding(
            code="never_asked",
            where="approval.margin_ratio_min",
            message=f"no price has a margin below {asked:g}: the margin floor is {floor:g}",
            fix="Set it above guards.margin_floor_ratio.",
        )


def _of_ladder(index: int, ladder: Ladder) -> Iterator[Finding]:
    where = f"ladders[{index}]"
    if ladder.ratio_min is None and ladder.ratio_max is None and not ladder.units:
        yield Finding(
            code="ladder_without_ratio",
            where=where,
            message=f"the ladder {ladder.name} has neither ratio_min, ratio_max nor units: it "
            "rules nothing",
            fix="Say by how much each price is above the one before: ratio_min = 1.1",
        )
    elif None not in (ladder.ratio_min, ladder.ratio_max) and (
        (ladder.ratio_min or 0.0) > (ladder.ratio_max or 0.0)
    ):
        yield Finding(
            code="minimum_above_maximum",
            where=f"{where}.ratio_min",
            message=f"ratio_min {ladder.ratio_min:g} is above ratio_max {ladder.ratio_max:g}",
            fix="Exchange them.",
        )


def _of_scope(
    index: int, scope: Scope, scopes: tuple[Scope, ...], base: Policy
) -> Iterator[Finding]:
    where = f"scopes[{index}]"
    keys = {(name, key) for name, table in scope.tables().items() for key in table}
    if not keys:
        yield Finding(
            code="sets_nothing", where=where, message="the scope sets nothing",
            fix="Give it a table, such as guards = {margin_floor_ratio = 0.1}.",
        )  # fmt: skip
        return
    later = [other for other in scopes[index + 1 :] if _covers(other.select, scope.select)]
    overridden = {
        (name, key) for other in later for name, table in other.tables().items() for key in table
    }
    if keys <= overridden:
        yield Finding(
            code="overridden",
            where=where,
            message="all that the scope sets, later scopes set anew for every product that it "
            "selects: of several, the last one holds",
            fix="Put the general scope before the special one, or delete this one.",
        )
    guards: dict[str, Any] = scope.guards
    if guards:
        merged = convert(to_builtins(base.guards) | guards, GuardPolicy)
        told = [one.message for one in _of_guards(base.guards, where)]
        for one in _of_guards(merged, f"{where}.guards"):
            if one.message not in told:
                yield one


def _covers(wide: Selector, narrow: Selector) -> bool:
    """Whether all that one selector takes, another takes too."""
    return all(
        not getattr(wide, name)
        or (
            getattr(narrow, name)
            and all(one in getattr(wide, name) for one in getattr(narrow, name))
        )
        for name in Selector.__struct_fields__
    )
