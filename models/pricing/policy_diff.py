"""What another policy would do to the present catalogue: every product priced under both.

Each product is decided as the next tick would decide it, once under the policy in force and once
under the other one, with all that is believed and published held. Nothing is settled and the state
is left as it was. Step limits hold: it is the first decision under the other policy, not where
prices end up.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from msgspec import Struct

from models.family.family_joint import asked
from models.fold.context import Request
from models.fold.engine import WAVE_ROWS, PartitionEngine
from models.fold.partition import PartitionState
from models.guards import guards
from models.pricing.pose import Posed
from models.pricing.settle import Priced, judge

TRIGGER = "policy"
MOVE_RATIOS = (0.01, 0.02, 0.05, 0.1)  # upper ends of the distribution's steps
LARGEST = 10


class Outlook(Struct, frozen=True, kw_only=True):
    """One product under one policy. ``shown_minor`` is what the shop would show: the decided price,
    or the present one where it is held; null where there is none.
    """

    sku: str
    category: str
    currency: str
    present_minor: int | None
    shown_minor: int | None
    held: tuple[str, ...]
    limits: tuple[str, ...]  # guards that moved the price
    broken: tuple[str, ...]  # guards that the present price breaks
    gave_way: tuple[str, ...]


class Compared(Struct, frozen=True, kw_only=True):
    """One product under both policies, and what the price in the shop earns a day before risk.

    Profit is counted as the policy in force counts it, for both prices; null without a price.
    """

    before: Outlook
    after: Outlook
    profit_before_minor: float | None
    profit_after_minor: float | None


def compare(engine: PartitionEngine, text: str) -> list[Compared]:
    """Price a partition's products under the policy in force and under another, by SKU.

    Raises
    ------
    FieldError : the text is no policy
    """
    ours = _outlooks(engine)
    with _policy(engine.state, text):
        theirs = {outlook.sku: outlook for _, outlook in _outlooks(engine)}
    found = []
    rows, prices, places = [], [], []
    for priced, before in ours:
        after = theirs[before.sku]
        for place, shown in enumerate((before.shown_minor, after.shown_minor)):
            if shown is not None:
                rows.append(priced.posed.full)
                prices.append([shown / priced.posed.reference_minor])
                places.append((before.sku, place))
    earned = dict(zip(places, engine.kernel.evaluate(rows, prices), strict=True))
    for priced, before in ours:
        per_day = priced.posed.reference_minor / priced.posed.full.horizon_days
        profits = [
            at.expected_profit * per_day if at is not None and at.finite else None
            for at in (earned.get((before.sku, place)) for place in (0, 1))
        ]
        found.append(
            Compared(
                before=before,
                after=theirs[before.sku],
                profit_before_minor=profits[0],
                profit_after_minor=profits[1],
            )
        )
    return found


@contextmanager
def _policy(state: PartitionState, text: str) -> Iterator[None]:
    """Put a policy in force for a while."""
    before, dirty = state.policy_text, dict(state.dirty)
    state.set_policy(text)
    try:
        yield
    finally:
        state.set_policy(before)
        state.dirty = dirty


def _outlooks(engine: PartitionEngine) -> list[tuple[Priced, Outlook]]:
    """Every product that can be priced now, as a decision at the partition's clock; by SKU."""
    state = engine.state
    found = []
    for wave in _waves(state):
        for priced in engine.priced(wave):
            found.append((priced, _outlook(state, priced)))
    return sorted(found, key=lambda one: one[1].sku)


def _waves(state: PartitionState) -> Iterator[list[Posed]]:
    """Posed products in waves that do not cut a family."""
    wave: list[Posed] = []
    for family in sorted(state.families):
        requests = [_request(state, sku) for sku in state.families[family]]
        wave += [found for _, found in asked(state, requests) if isinstance(found, Posed)]
        if len(wave) >= WAVE_ROWS:
            yield wave
            wave = []
    if wave:
        yield wave


def _request(state: PartitionState, sku: str) -> Request:
    now_ms = state.manifest.clock_ms or state.catalogue[sku].changed_ms
    return Request(sku, TRIGGER, state.manifest.position + 1, now_ms, now_ms)


def _outlook(state: PartitionState, priced: Priced) -> Outlook:
    posed, path, present = priced.posed, priced.path, priced.posed.state.published_minor
    verdict = judge(state, priced).verdict
    held = verdict.status == "held"
    stays = priced.chosen_minor != path.wanted_minor
    return Outlook(
        sku=posed.state.sku,
        category=posed.entry.category,
        currency=posed.entry.currency,
        present_minor=present,
        shown_minor=present if held else priced.chosen_minor,
        held=verdict.reasons if held else (),
        limits=() if stays else tuple(move.guard for move in path.moves),
        broken=() if present is None else _broken(present, posed.allowed),
        gave_way=posed.allowed.gave_way,
    )


def _broken(present_minor: int, allowed: guards.Feasible) -> tuple[str, ...]:
    """Guards that the present price breaks; of one that gave way only its bound is known."""
    broken = guards.violations(present_minor, allowed)
    return tuple(name for name in broken if name not in allowed.gave_way)


# -- the sum


class LimitCount(Struct, frozen=True, kw_only=True):
    """How many products a limit moves, under the policy in force and the other one; how many
    present prices break it; and where it gave way to a stronger one.
    """

    limit: str
    moves_before: int
    moves_after: int
    broken_before: int
    broken_after: int
    gave_way_before: int
    gave_way_after: int


class MoveCount(Struct, frozen=True, kw_only=True):
    """How many prices move by up to so much (null: by more), up and down."""

    move_ratio_max: float | None
    up: int
    down: int


class ProfitChange(Struct, frozen=True, kw_only=True):
    """Expected profit a day of all products of a currency, before risk."""

    currency: str
    before_minor: float
    after_minor: float


class PolicyDiff(Struct, frozen=True, kw_only=True):
    """What another policy would do. ``held_*`` count decisions held; ``newly_held`` names those
    that only the other policy holds, ``freed`` those that only the one in force does.
    """

    products: int
    moved: int
    up: int
    down: int
    move_ratio_median: float | None
    distribution: tuple[MoveCount, ...]
    held_before: int
    held_after: int
    newly_held: tuple[Outlook, ...]
    freed: tuple[str, ...]
    limits: tuple[LimitCount, ...]
    profit_per_day: tuple[ProfitChange, ...]
    largest: tuple[Compared, ...]


def summary(compared: list[Compared]) -> PolicyDiff:
    """Count what changes; the largest moves are by ratio, then SKU."""
    moves = {
        one.before.sku: one.after.shown_minor / one.before.shown_minor - 1.0
        for one in compared
        if one.before.shown_minor and one.after.shown_minor
        and one.before.shown_minor != one.after.shown_minor
    }  # fmt: skip
    by_size = sorted(
        (one for one in compared if one.before.sku in moves),
        key=lambda one: (-abs(moves[one.before.sku]), one.before.sku),
    )
    newly = tuple(one.after for one in compared if one.after.held and not one.before.held)
    return PolicyDiff(
        products=len(compared),
        moved=len(moves),
        up=sum(move > 0.0 for move in moves.values()),
        down=sum(move < 0.0 for move in moves.values()),
        move_ratio_median=median(abs(move) for move in moves.values()) if moves else None,
        distribution=_distribution(list(moves.values())),
        held_before=sum(bool(one.before.held) for one in compared),
        held_after=sum(bool(one.after.held) for one in compared),
        newly_held=newly,
        freed=tuple(one.after.sku for one in compared if one.before.held and not one.after.held),
        limits=_limits(compared),
        profit_per_day=_profits(compared),
        largest=tuple(by_size[:LARGEST]),
    )


def _distribution(moves: list[float]) -> tuple[MoveCount, ...]:
    found, least = [], 0.0
    for most in (*MOVE_RATIOS, None):
        within = [
            move for move in moves if least < abs(move) and (most is None or abs(move) <= most)
        ]
        ups = sum(move > 0.0 for move in within)
        found.append(MoveCount(move_ratio_max=most, up=ups, down=len(within) - ups))
        least = most or least
    return tuple(found)


def _limits(compared: list[Compared]) -> tuple[LimitCount, ...]:
    counts = [
        Counter(name for one in compared for name in getattr(getattr(one, side), kind))
        for kind in ("limits", "broken", "gave_way")
        for side in ("before", "after")
    ]
    names = sorted({name for count in counts for name in count})
    return tuple(
        LimitCount(
            limit=name,
            moves_before=counts[0][name],
            moves_after=counts[1][name],
            broken_before=counts[2][name],
            broken_after=counts[3][name],
            gave_way_before=counts[4][name],
            gave_way_after=counts[5][name],
        )
        for name in names
    )


def _profits(compared: list[Compared]) -> tuple[ProfitChange, ...]:
    sums: dict[str, tuple[float, float]] = {}
    for one in compared:
        before, after = one.profit_before_minor, one.profit_after_minor
        if before is None or after is None:
            continue
        had, has = sums.get(one.before.currency, (0.0, 0.0))
        sums[one.before.currency] = (had + before, has + after)
    return tuple(
        ProfitChange(currency=currency, before_minor=before, after_minor=after)
        for currency, (before, after) in sorted(sums.items())
    )
