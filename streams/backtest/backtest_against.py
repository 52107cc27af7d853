"""Another build's decisions as a candidate: read from its replay's file, or replayed by it.

The other build folded the same tape under the same policies, so what differs is the engine.
"""

import hashlib
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.backtest.collect import Columns, DecisionRows, Observer
from models.backtest.columns import Epochs, Outcomes
from models.backtest.edits import Candidate
from models.kernel.tile import Kernel
from schemas.errors import ConfigError, InputError
from schemas.outputs import PriceDecided
from schemas.state import Counts
from streams.backtest.backtest_jobs import BASELINE, OBSERVERS, Folded, read_columns, write_columns
from streams.explain.decisions import decode, lines
from streams.tape.tape_selection import EVERYTHING, SourceSpec

ERROR_CHARACTERS_MAX = 2000


class Against(NamedTuple):
    """A candidate that is another build: its decisions in a file, or the Python that makes them."""

    name: str
    decisions: Path | None = None
    python: Path | None = None

    @property
    def candidate(self) -> Candidate:
        """As which it stands in the report."""
        told = f"decisions of {self.decisions}" if self.python is None else f"engine {self.python}"
        return Candidate(self.name, note=f"{told}; its state and breakers' moves are not known")


def replay_with(python: Path, spec: SourceSpec, bootstrap: str, folder: Path) -> Path:
    """Replay a source with another installation; returns the file of its decisions.

    Raises
    ------
    ConfigError : the source is only a stretch of a tape, or the other build can't be run
    InputError : the other build refused the source
    """
    if spec.selection != EVERYTHING:
        raise ConfigError(
            "whole_tape", "--engine replays the whole source.", field="--engine",
            fix="Leave out --from, --to and the like, or give --against a file of decisions.",
        )  # fmt: skip
    out = folder / f"decisions-of-{hashlib.sha256(str(python).encode()).hexdigest()[:12]}"
    command = [
        str(python), "-m", "streams", "replay", spec.source, "--partitions", str(spec.partitions),
        "--bootstrap", bootstrap, "--out", str(out), "--json",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError(
            "no_engine", f"{error}.", field="--engine", value=python,
            expected="the Python of an environment that has pricemaker",
        ) from error  # fmt: skip
    if done.returncode:
        raise InputError(
            "engine_failed",
            f"the replay of {python} ended with {done.returncode}: "
            f"{done.stderr[-ERROR_CHARACTERS_MAX:].strip()}",
            field="--engine",
            value=python,
        )
    return out


class _Part:
    """One partition's decisions of the other build."""

    def __init__(self, folder: Path, partition: int, end_offset: int) -> None:
        self.columns, _ = read_columns(folder, BASELINE, partition)
        self.rows = DecisionRows()
        self.observers: dict[str, Observer] = {name: make() for name, make in OBSERVERS.items()}
        self.chain = ""
        self.last: PriceDecided | None = None
        self.priced: dict[str, None] = {}
        self._number = {sku: place for place, sku in enumerate(self.columns.products.skus)}
        self._end_offset = end_offset

    def take(self, line: bytes, decision: PriceDecided) -> None:
        """Keep a decision; those behind what was read of a tape that goes on are passed over."""
        if decision.tape.offset >= self._end_offset:
            return
        self.chain = hashlib.sha256(self.chain.encode() + line).hexdigest()
        self.last = decision
        number = self._number.get(decision.sku)
        if number is not None:
            self.rows.add(number, decision)
            for observer in self.observers.values():
                observer.decided(decision)
        if decision.price_minor is not None:
            self.priced[decision.sku] = None


def fold_decisions(
    path: Path, number: int, baseline: list[Folded], ends: dict[int, int], folder: Path,
    kernel: Kernel,
) -> list[Folded]:  # fmt: skip
    """Put a file of decisions where a candidate's folds would be.

    Parameters
    ----------
    number : the candidate's
    baseline : its folds, whose products are looked at
    ends : the offset behind the last that was read, by partition

    Raises
    ------
    InputError : the file has something else, or decisions of another tape
    """
    parts = {one.partition: _Part(folder, one.partition, ends[one.partition]) for one in baseline}
    for where, line in lines(path):
        decision: PriceDecided = decode(line, PriceDecided, where)
        if decision.tape.partition in parts:
            parts[decision.tape.partition].take(line.rstrip(b"\n"), decision)
        elif decision.tape.partition not in ends:
            raise InputError(
                "other_tape", f"the tape has no partition {decision.tape.partition}.", where=where,
                field="tape.partition", value=decision.tape.partition,
                expected="decisions of a replay of the same source",
            )  # fmt: skip
    return [_folded(part, number, one, folder, kernel) for one in baseline
            for part in (parts[one.partition],)]  # fmt: skip


def _folded(part: _Part, number: int, baseline: Folded, folder: Path, kernel: Kernel) -> Folded:
    place = np.arange(len(part.columns.products.skus))
    decisions, notes = part.rows.columns(place, kernel)
    columns = Columns(
        part.columns.products,
        decisions,
        notes,
        part.columns.end_ms,
        Epochs._make(column[:0] for column in part.columns.epochs),
        Outcomes._make(column[:0] for column in part.columns.outcomes),
    )
    write_columns(folder, number, baseline.partition, columns, part.observers)
    statuses, last = part.rows.activity.statuses, part.last
    return baseline._replace(
        number=number,
        counts=Counts(
            decisions=sum(statuses.values()),
            published=statuses["published"],
            held=statuses["held"],
            reverted=statuses["reverted"],
        ),
        activity=part.rows.activity,
        products_priced=len(part.priced),
        policy_sha256=baseline.policy_sha256 if last is None else last.policy_sha256,
        prior_sha256=baseline.prior_sha256 if last is None else last.prior_sha256,
        decisions_sha256=part.chain,
        state_sha256="",
        engine=baseline.engine if last is None else last.engine,
        records_changed=0,
    )
