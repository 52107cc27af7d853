"""Which of a policy document's tables hold for a product, a market, a channel.

A document has tables that hold everywhere and ``[[scopes]]``, each with a selector and tables of
its own, which hold where all that it names matches. Of several that set the same key the later one
in the document wins. A price is one for all markets and channels, so a guard that a scope sets for
one of them bounds it beside those of the others.
"""

import tomllib
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from schemas.codec import plan
from schemas.errors import FieldError
from schemas.policy import GuardPolicy, Ladder, Policy, Selector

# What a scope may set of `decision`: the rest times the whole partition.
SCOPED_DECISION_KEYS = frozenset(
    {
        "change_cost_profit_share",
        "exploration_log",
        "exploration_payback_days",
        "exploration_profit_share_max",
        "graduation_elasticity_sd_max",
        "rival_age_days_max",
        "rival_match_confidence_min",
        "rival_plausible_ratio",
    }
)
PLACED_TABLES = frozenset({"guards"})  # what a scope of a market or channel may set
# One price has one ending, and these three fit each other: a scope sets all of them or none.
ROUNDING_KEYS = frozenset({"tick_minor", "ending_modulus_minor", "endings_minor"})


class Subject(NamedTuple):
    """A product as selectors see it."""

    sku: str
    family: str
    category: str
    role: str


class Place(NamedTuple):
    """A market and a channel that a product is sold in; None: any, the document names none."""

    market: str | None = None
    channel: str | None = None


class PlacedGuards(NamedTuple):
    """The guards that hold in a place; places with the same guards are told once, the first."""

    place: Place
    guards: GuardPolicy


class Rung(NamedTuple):
    """A product's place in a ladder, 0 the cheapest."""

    ladder: Ladder
    place: int


class Scope(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tables that hold where the selector matches; each key as in the document's own tables."""

    select: Selector
    objective: dict[str, Any] = {}
    guards: dict[str, Any] = {}
    decision: dict[str, Any] = {}
    breaker: dict[str, Any] = {}
    approval: dict[str, Any] = {}
    discounts: dict[str, Any] = {}

    def tables(self) -> dict[str, dict[str, Any]]:
        """The tables that the scope sets something in."""
        found = {name: getattr(self, name) for name in SCOPED_TABLES}
        return {name: table for name, table in found.items() if table}


SCOPED_TABLES = ("objective", "guards", "decision", "breaker", "approval", "discounts")


def selects(selector: Selector, subject: Subject) -> bool:
    """Whether a selector takes a product, whatever it says of markets and channels.

    >>> selects(Selector(categories=("shoes",)), Subject("A", "A", "shoes", "plain"))
    True
    >>> selects(Selector(categories=("shoes",), roles=("anchor",)),
    ...         Subject("A", "A", "shoes", "plain"))
    False
    """
    return (
        (not selector.skus or subject.sku in selector.skus)
        and (not selector.families or subject.family in selector.families)
        and (not selector.categories or subject.category in selector.categories)
        and (not selector.roles or subject.role in selector.roles)
    )


class PolicyDocument:
    """A parsed document: ``base`` holds everywhere, `of` tells what holds for a product."""

    def __init__(self, tables: dict[str, Any], base: Policy, scopes: tuple[Scope, ...]) -> None:
        self.base, self.scopes = base, scopes
        self._tables = tables
        self._places = _places(base)
        self._policies: dict[tuple[int, ...], Policy] = {(): base}
        self._placed: dict[tuple[int, ...], tuple[PlacedGuards, ...]] = {}
        self.rungs: dict[str, tuple[Rung, ...]] = {}
        for ladder in base.ladders:
            for place, sku in enumerate(ladder.skus):
                self.rungs[sku] = (*self.rungs.get(sku, ()), Rung(ladder, place))

    def of(self, subject: Subject) -> Policy:
        """What holds for a product in every place."""
        if not self.scopes:
            return self.base
        matching = self._matching(subject)
        chosen = tuple(
            index
            for index in matching
            if not self.scopes[index].select.markets and not self.scopes[index].select.channels
        )
        if chosen not in self._policies:
            self._policies[chosen] = self._merged(chosen)
        return self._policies[chosen]

    def guards_of(self, subject: Subject) -> tuple[PlacedGuards, ...]:
        """The guards of each place that a product is sold in; a price keeps them all."""
        matching = self._matching(subject) if self.scopes else ()
        if matching not in self._placed:
            self._placed[matching] = self._guards_of_places(matching, self._places)
        return self._placed[matching]

    def guards_in(
        self, subject: Subject, market: str | None, channel: str | None
    ) -> tuple[PlacedGuards, ...]:
        """The guards of one market's or one channel's places; none where there is no such place."""
        places = tuple(
            place
            for place in self._places
            if market in (None, place.market) and channel in (None, place.channel)
        )
        return self._guards_of_places(self._matching(subject), places)

    def _matching(self, subject: Subject) -> tuple[int, ...]:
        return tuple(
            index for index, scope in enumerate(self.scopes) if selects(scope.select, subject)
        )

    def _guards_of_places(
        self, matching: tuple[int, ...], places: tuple[Place, ...]
    ) -> tuple[PlacedGuards, ...]:
        found: list[PlacedGuards] = []
        for place in places:
            chosen = tuple(index for index in matching if _holds_in(self.scopes[index], place))
            guards = self._merged(chosen).guards
            if all(guards != other.guards for other in found):
                found.append(PlacedGuards(place, guards))
        return tuple(found)

    def _merged(self, indices: tuple[int, ...]) -> Policy:
        return _convert(_merge(self._tables, [self.scopes[index] for index in indices]))


def _holds_in(scope: Scope, place: Place) -> bool:
    select = scope.select
    return (not select.markets or place.market in select.markets) and (
        not select.channels or place.channel in select.channels
    )


def _places(base: Policy) -> tuple[Place, ...]:
    return tuple(
        Place(market, channel)
        for market in (tuple(base.markets) or (None,))
        for channel in (base.channels or (None,))
    )


def _merge(tables: dict[str, Any], scopes: list[Scope]) -> dict[str, Any]:
    merged = dict(tables)
    for scope in scopes:
        for name, table in scope.tables().items():
            merged[name] = {**merged.get(name, {}), **table}
    return merged


def _convert(tables: dict[str, Any]) -> Policy:
    return msgspec.convert(tables, Policy)


def parse_policy(text: str) -> PolicyDocument:
    """Read a policy document.

    Raises
    ------
    FieldError : the text is not TOML, a key is unknown or out of bounds, or a name is not declared
    """
    try:
        tables: dict[str, Any] = tomllib.loads(text)
        scopes = msgspec.convert({"scopes": tables.pop("scopes", [])}, _Scopes).scopes
        base = _convert(tables)
    except tomllib.TOMLDecodeError as error:
        raise FieldError(
            "not_toml", f"policy was not TOML: {error}.", field="policy", expected="TOML"
        ) from None
    except msgspec.ValidationError as error:
        raise _refused(str(error)) from None
    for index, scope in enumerate(scopes):
        try:
            _check(scope, base)
            _convert(_merge(tables, [scope]))
        except (ValueError, msgspec.ValidationError) as error:
            raise _refused(str(error).replace("`$.", f"`$.scopes[{index}].")) from None
    for index, cap in enumerate(base.emergency_caps):
        try:
            _check_names(cap.select, base)
        except ValueError as error:
            raise _refused(str(error).replace("`$.", f"`$.emergency_caps[{index}].")) from None
    return PolicyDocument(tables, base, scopes)


class _Scopes(Struct):
    scopes: tuple[Scope, ...]


plan(Policy, _Scopes)  # workers parse policies in several threads


def _check(scope: Scope, base: Policy) -> None:
    """What types cannot say of a scope. Raises ValueError with the key's place."""
    for key in sorted(scope.decision):
        if key not in SCOPED_DECISION_KEYS:
            raise ValueError(f"Expected a key that a scope may set - at `$.decision.{key}`")
    placed = bool(scope.select.markets or scope.select.channels)
    for name in scope.tables():
        if placed and name not in PLACED_TABLES:
            raise ValueError(f"Expected only guards for a market or channel - at `$.{name}`")
    rounding = ROUNDING_KEYS & scope.guards.keys()
    if rounding and (placed or rounding != ROUNDING_KEYS):
        raise ValueError(
            "Expected tick_minor, ending_modulus_minor and endings_minor together, and for no "
            f"single market or channel - at `$.guards.{min(rounding)}`"
        )
    _check_names(scope.select, base)


def _check_names(select: Selector, base: Policy) -> None:
    for kind, names, declared in (
        ("markets", select.markets, tuple(base.markets)),
        ("channels", select.channels, base.channels),
    ):
        for name in names:
            if name not in declared:
                raise ValueError(f"Expected one of the declared {kind} - at `$.select.{kind}`")


def _refused(reason: str) -> FieldError:
    return FieldError(
        "invalid_policy", f"policy was refused: {reason}.", field="policy", expected=reason
    )
