"""What a backtest keeps of one policy's outputs on one tape partition, for the report.

A `SeriesCollector` stands beside the fold: it is fed each decision and alert in tape order, and it
can be sent between processes. `series` joins those of all partitions; what comes out does not
depend on how partitions were shared out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from models.backtest.day_book import Day, DayBook, day_series
from models.backtest.rule_book import (
    ExplainBook,
    RuleBook,
    RuleSum,
    explained_days,
    ledger_lines,
)
from models.fold.watch import Closed
from schemas.backtest import BreakerMove, DaySeries, ExplainedDay, LedgerLine
from schemas.events import DAY_MS
from schemas.outputs import Alert, PriceDecided

MOVES_MAX = 5_000  # of breakers, a policy and partition; the first ones


class _Part(NamedTuple):
    """What a collector found."""

    days: dict[str, dict[int, Day]]
    ledger: dict[tuple[str, str], RuleSum]
    explained: dict[tuple[str, int], dict[str, float]]
    moves: list[BreakerMove]


class Series(NamedTuple):
    """One policy's series for the report."""

    days: tuple[DaySeries, ...]
    breakers: tuple[BreakerMove, ...]
    ledger: tuple[LedgerLine, ...]
    explained: tuple[ExplainedDay, ...]


class SeriesCollector:
    """Fed with one policy's decisions and alerts on one partition, in tape order."""

    def __init__(self) -> None:
        self._days = DayBook()
        self._rules = RuleBook()
        self._explained = ExplainBook()
        self._moves: list[BreakerMove] = []

    def decided(self, decision: PriceDecided) -> None:
        """Take one decision."""
        self._days.decided(decision)
        self._rules.decided(decision)
        self._explained.decided(decision)

    def alerted(self, alert: Alert) -> None:
        """Take one alert; those that tell of no breaker are passed over."""
        if len(self._moves) < MOVES_MAX and (move := move_of(alert)) is not None:
            self._moves.append(move)

    def closed(self, closed: Closed) -> None:
        """An epoch taught: its columns say all that the report needs."""

    def result(self) -> "SeriesCollector":
        """Itself, to be sent back and given to `series`."""
        return self

    def finish(self, end_ms: int) -> _Part:
        """What was found up to the end of the whole tape, event time; the collector is done."""
        return _Part(
            self._days.finish(end_ms),
            self._rules.finish(end_ms),
            self._explained.finish(),
            self._moves,
        )


def move_of(alert: Alert) -> BreakerMove | None:
    """The breaker's change of state that an alert tells; its policy is named later."""
    if alert.kind != "breaker_changed":
        return None
    told = alert.evidence
    states = told.get("states")
    return BreakerMove(
        policy="",
        at=alert.at,
        scope="product" if alert.sku is not None else str(told.get("scope", "")),
        name=alert.sku or str(told.get("name") or ""),
        state=str(states[-1] if states else told.get("to", "")),
        reason=alert.message,
    )


def series(
    policy: str, collectors: Sequence[SeriesCollector], begin_ms: int, end_ms: int
) -> Series:
    """The series of one policy over a tape from ``begin_ms`` to ``end_ms``, event time.

    Parameters
    ----------
    collectors : of all partitions, in their order; they are done afterwards
    """
    parts = [collector.finish(end_ms) for collector in collectors]
    days = max((end_ms - begin_ms) / DAY_MS, 1.0)
    moves = [replace(move, policy=policy) for part in parts for move in part.moves]
    return Series(
        day_series(policy, [part.days for part in parts]),
        tuple(sorted(moves, key=lambda one: (one.at, one.scope, one.name))),
        ledger_lines(policy, [part.ledger for part in parts], days),
        explained_days(policy, [part.explained for part in parts]),
    )
