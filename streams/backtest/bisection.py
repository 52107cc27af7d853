"""``backtest --bisect``: which rule, or which event, caused a decision.

Each probe folds a tape partition up to the decision with a part of the changes, from a checkpoint
where all probes are still the same: the candidates' switch, or the product's decision before. The
number of probes is bounded; what is found by then is told, with whether it is the least.
"""

import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from models.backtest.day_book import decided_ms
from models.backtest.ddmin import Minimal, Places, Probes, ddmin
from models.backtest.edits import Candidate
from schemas.bisection import Bisection, Cause
from schemas.errors import InputError
from schemas.events import rfc3339, time_ms
from schemas.outputs import PriceDecided
from streams.backtest.backtest_spool import Spool, spool
from streams.backtest.bisection_causes import (
    atoms_of,
    event_cause,
    event_groups,
    part_of,
    priced,
    rule_cause,
)
from streams.backtest.bisection_folds import Folds, Place
from streams.tape.tape_selection import SourceSpec
from streams.tape.tape_sources import Progress
from streams.worker.engines import warm_kernel

PROBES_MAX = 100
SPOOL_SHARE = 0.1
_PRICE_ID = re.compile(r"(\d+)-(\d+)-(.+)")
NO_EVENT = (
    "it comes out without any event since the last decision: by time alone, or as the next step of "
    "a move that had begun"
)


def bisect(
    spec: SourceSpec,
    text: str,
    candidate: Candidate | None,
    settings: Any,
    progress: Progress | None = None,
    probes_max: int = PROBES_MAX,
) -> Bisection:
    """Find what caused a decision.

    Parameters
    ----------
    text : ``PRICE_ID``, or ``SKU@TIME`` for the product's last decision at or before that time
    candidate : asks what of it makes its decision differ; None: which events made this one
    probes_max : folds at most, for groups of events and for single ones each

    Raises
    ------
    InputError : no such decision
    """
    tell = progress or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="pricemaker-bisect-") as name:
        folder = Path(name)
        laid = spool(spec, settings, folder, lambda share: tell(share * SPOOL_SHARE))
        kernel = warm_kernel(settings.engine.compilation_cache_dir)
        place = place_of(text, laid)
        folds = Folds(folder, laid, kernel, place)
        question = _Question(folds, laid, place, tell, probes_max)
        return question.by_events() if candidate is None else question.by_rules(candidate)


def place_of(text: str, laid: Spool) -> Place:
    """Read ``PRICE_ID`` or ``SKU@TIME``.

    Raises
    ------
    InputError : neither, or the tape has no such product
    """
    sku, at, moment = text.rpartition("@")
    if at and sku in laid.routes:
        try:
            found = datetime.fromisoformat(moment)
        except ValueError:
            raise _no_such_decision(text) from None
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return Place(sku, laid.routes[sku][1], None, time_ms(aware))
    named = _PRICE_ID.fullmatch(text)
    if named is None or named[3] not in laid.routes or int(named[1]) not in laid.records:
        raise _no_such_decision(text)
    return Place(named[3], int(named[1]), int(named[2]), None)


def _no_such_decision(text: str) -> InputError:
    return InputError(
        "no_such_decision", f"{text!r} is no decision on this tape.", field="--bisect", value=text,
        expected="a price_id such as 0-1234-SKU, or SKU@TIME",
        fix="See: pricemaker replay SOURCE --out decisions.jsonl",
    )  # fmt: skip


class _Question:
    """One question and its probes."""

    def __init__(
        self, folds: Folds, laid: Spool, place: Place, tell: Progress, probes_max: int
    ) -> None:
        self._folds, self._place, self._tell = folds, place, tell
        self._families = {sku: family for sku, (family, _) in laid.routes.items()}
        self._probes_max = probes_max
        self._used = 0

    def by_rules(self, candidate: Candidate) -> Bisection:
        """The least of a candidate's changes with which its price comes out."""
        history = self._folds.history(candidate.switch_ms)
        ours = self._asked(history.decisions)
        atoms = atoms_of(candidate, history.policies)
        found: dict[Places, PriceDecided | None] = {}

        def decided(places: Places) -> PriceDecided | None:
            if places not in found:
                part = part_of(candidate, [atoms[at] for at in places])
                found[places] = self._folds.under(part, history, ours.tape.offset)
            return found[places]

        everything = tuple(range(len(atoms)))
        theirs = decided(everything)
        if theirs is None:
            raise InputError(
                "nothing_decided", f"{candidate.name} decides nothing there.", field="--bisect",
                value=ours.price_id, expected="a product that both price",
            )  # fmt: skip
        what = _difference(ours, theirs)
        if what is None:
            told = "both want the same price there"
            return self._answer("rules", ours, theirs, (), Minimal((), True), len(atoms), told)
        said = getattr(theirs, what)
        probes = self._probes(lambda kept: getattr(decided(kept), what, None) == said, len(atoms))
        least = ddmin(everything, probes)
        self._used = probes.used
        causes = tuple(
            rule_cause(atoms[at], history.policies[-1], found.get(_less(least.places, at)))
            for at in least.places
        )
        told = "these changes alone lead to the candidate's price"
        return self._answer("rules", ours, theirs, causes, least, len(atoms), told)

    def by_events(self) -> Bisection:
        """The fewest events since the product's last decision with which this one comes out."""
        decisions = self._folds.history(None).decisions
        asked = self._asked(decisions)
        earlier = [one for one in decisions if one.tape.offset < asked.tape.offset]
        before = earlier[-1] if earlier else None
        begin = -1 if before is None else before.tape.offset
        start = self._folds.checkpoint(begin)
        window = list(self._folds.records(begin, asked.tape.offset))
        groups = event_groups(window, self._families, self._families[self._place.sku])
        events = frozenset(place for group in groups for place in group)
        found: dict[frozenset[int], PriceDecided | None] = {}

        def decided(kept: frozenset[int]) -> PriceDecided | None:
            if kept not in found:
                found[kept] = self._folds.with_dropped(start, window, events - kept)
            return found[kept]

        least = self._least_events(groups, lambda kept: _alike(decided(kept), asked))
        causes = tuple(
            event_cause(
                self._place.partition,
                window[place],
                found.get(frozenset(_less(least.places, place))),
            )
            for place in least.places
        )
        told = "these events alone lead to the price" if causes else NO_EVENT
        return self._answer("events", before, asked, causes, least, len(events), told)

    def _least_events(
        self, groups: list[list[int]], shows: Callable[[frozenset[int]], bool]
    ) -> Minimal:
        """First the groups, then the events of those that are needed (hierarchical ddmin).

        Source: G. Misherghi, Z. Su (2006), HDD: hierarchical delta debugging, ICSE.
        """
        coarse = self._probes(
            lambda kept: shows(frozenset(place for at in kept for place in groups[at])), len(groups)
        )
        some = ddmin(range(len(groups)), coarse)
        places = tuple(sorted(place for at in some.places for place in groups[at]))
        self._used = coarse.used
        if not places or not some.proved:
            return Minimal(places, some.proved)
        fine = self._probes(lambda kept: shows(frozenset(kept)), len(places))
        least = ddmin(places, fine)
        self._used += fine.used
        return least

    def _asked(self, decisions: list[PriceDecided]) -> PriceDecided:
        """The decision that is asked about, of those that history made up to the place."""
        place = self._place
        if place.at_ms is not None:
            decisions = [one for one in decisions if decided_ms(one) <= place.at_ms]
        if not decisions or place.offset not in (None, decisions[-1].tape.offset):
            where = rfc3339(place.at_ms) if place.offset is None else place.offset
            raise _no_such_decision(f"{place.sku}@{where}")
        return decisions[-1]

    def _probes(self, shows: Callable[[Places], bool], changes: int) -> Probes:
        """Probes that move the progress: about 2 n are needed where one of n is the cause."""
        expected, asked = max(min(2 * changes, self._probes_max), 1), 0

        def told(places: Places) -> bool:
            nonlocal asked
            asked += 1
            self._tell(SPOOL_SHARE + (1.0 - SPOOL_SHARE) * min(asked / expected, 1.0))
            return shows(places)

        return Probes(told, self._probes_max)

    def _answer(
        self,
        question: Literal["rules", "events"],
        before: PriceDecided | None,
        after: PriceDecided,
        causes: tuple[Cause, ...],
        least: Minimal,
        tried: int,
        told: str,
    ) -> Bisection:
        place = after.tape if before is None or question == "events" else before.tape
        return Bisection(
            question=question,
            sku=self._place.sku,
            currency=after.currency,
            tape=f"tape[{place.partition}]@{place.offset}",
            before=None if before is None else priced(before),
            after=priced(after),
            causes=causes,
            proved=least.proved,
            tried=tried,
            probes=self._used,
            told=told,
        )


def _less(places: Places, left_out: int) -> Places:
    return tuple(place for place in places if place != left_out)


def _difference(ours: PriceDecided, theirs: PriceDecided) -> str | None:
    """In what two decisions differ: the price in force, else the one that was wanted."""
    for name in ("price_minor", "wanted_minor"):
        if getattr(ours, name) != getattr(theirs, name):
            return name
    return None


def _alike(one: PriceDecided | None, other: PriceDecided) -> bool:
    return one is not None and one.wanted_minor == other.wanted_minor and one.status == other.status
