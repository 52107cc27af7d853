"""A policy as the publisher gate reads it, in other code than the engine's.

Of several markets and channels that a product is sold in, the tightest value counts.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from schemas.policy import GuardPolicy, MarketPolicy, ResaleTrial, Selector
from schemas.scopes import PolicyDocument
from schemas.state import GateEntry

# How the rules of two places become one that keeps both.
_LEAST = ("ceiling_list_price_ratio", "ceiling_reference_ratio", "step_ratio_max",
          "day_step_ratio_max")  # fmt: skip
_MOST = ("margin_floor_ratio", "floor_reference_ratio", "loss_leader_cost_ratio_min")
_WAIVERS = ("off", "margin_floor", "cost_floor")  # from the strictest on


class GateRules:
    """The rules of one document by product; remembered, for a gate is asked often."""

    def __init__(self, document: PolicyDocument) -> None:
        self._document = document
        self._known: dict[tuple[int, ...], GuardPolicy] = {}

    def of(self, entry: GateEntry) -> GuardPolicy:
        """The guards that the gate repeats for a product."""
        scopes = self._document.scopes
        key = tuple(at for at, scope in enumerate(scopes) if _takes(scope.select, entry))
        if key not in self._known:
            self._known[key] = _tightest(list(self._by_place(entry)))
        return self._known[key]

    def markup(self, entry: GateEntry) -> float:
        """The expert's mark-up, of which the first reference price may be made."""
        found = self._document.base.objective.expert_markup_ratio
        for scope in self._document.scopes:
            if _takes(scope.select, entry):
                found = scope.objective.get("expert_markup_ratio", found)
        return found

    def below_cost_lawful(self) -> bool:
        """Whether every market that the document names allows sale below cost."""
        markets = self._document.base.markets
        return bool(markets) and all(market.sale_below_cost_lawful for market in markets.values())

    def prior_price_days(self, entry: GateEntry) -> int | None:
        """The shortest window of the markets whose prior price binds reductions; None: none."""
        days = [
            min(market.prior_price_days, market.new_arrival_days or market.prior_price_days)
            for market in self._document.base.markets.values() or (MarketPolicy(),)
            if market.prior_price_days
            and entry.category not in market.prior_price_exempt_categories
        ]
        return min(days, default=None)

    def ladder_limits(
        self, entry: GateEntry, gates: Mapping[str, GateEntry]
    ) -> Iterator[tuple[str, float, float]]:
        """What neighbours' published prices leave of each ladder: its name, lowest, highest."""
        for ladder in self._document.base.ladders:
            if entry.sku not in ladder.skus:
                continue
            at, low, high = ladder.skus.index(entry.sku), 0.0, math.inf
            for lower in (at - 1, at):
                if not 0 <= lower < len(ladder.skus) - 1:
                    continue
                beside = gates.get(ladder.skus[lower if lower < at else lower + 1])
                if beside is None or beside.retired or beside.published_minor is None:
                    continue
                price = beside.published_minor
                least = ladder.ratio_min or 0.0
                most = math.inf if ladder.ratio_max is None else ladder.ratio_max
                if ladder.units:
                    most = min(most, ladder.units[lower + 1] / ladder.units[lower])
                if lower < at:
                    low, high = max(low, least * price), min(high, most * price)
                else:
                    low = max(low, price / most)
                    high = min(high, price / least if least else math.inf)
            yield ladder.name, low, high

    def _by_place(self, entry: GateEntry) -> Iterator[dict[str, Any]]:
        base = self._document.base
        for market in base.markets or (None,):
            for channel in base.channels or (None,):
                rules = msgspec.structs.asdict(base.guards)
                for scope in self._document.scopes:
                    named = scope.select
                    here = (not named.markets or market in named.markets) and (
                        not named.channels or channel in named.channels
                    )
                    if here and _takes(named, entry):
                        rules.update(scope.guards)
                yield rules


def _takes(named: Selector, entry: GateEntry) -> bool:
    return all(
        value in names
        for value, names in (
            (entry.sku, named.skus),
            (entry.family, named.families),
            (entry.category, named.categories),
            (entry.role, named.roles),
        )
        if names
    )


def _tightest(places: list[dict[str, Any]]) -> GuardPolicy:
    first = places[0]
    rules = {name: min(place[name] for place in places) for name in _LEAST}
    rules |= {name: max(place[name] for place in places) for name in _MOST}
    markets = [name for place in places for name in place["minimum_resale_price_markets"]]
    trials = [
        place["minimum_resale_price_trial"]
        for place in places
        if place["minimum_resale_price_markets"]
    ]
    trial = None
    if trials and all(found is not None for found in trials):
        every = [msgspec.convert(found, ResaleTrial, from_attributes=True) for found in trials]
        trial = min(every, key=lambda found: found.depth_ratio_max)
    return GuardPolicy(
        **rules,
        minimum_resale_price_markets=tuple(dict.fromkeys(markets)),
        minimum_resale_price_trial=trial,
        loss_leader=min((place["loss_leader"] for place in places), key=_WAIVERS.index),
        tick_minor=first["tick_minor"],
    )
