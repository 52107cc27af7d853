"""The engine under scripted crashes, without a broker: work is lost, results are not.

A crash drops a batch that was folded and not committed, and the engine goes on from the committed
state records. Whatever the cuts, outputs and state are those of the uninterrupted run.
"""

from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from tests.crash.feed import feed
from tests.crash.in_memory import PARTITIONS, tape_of

SEED = 20250106
EVENTS = 3_000


class Step(NamedTuple):
    """A batch of so many records; ``crash``: it is folded and then lost with the engine."""

    records: int
    crash: bool


class Run(NamedTuple):
    """What readers of the topics see in the end."""

    outputs: list[Any]
    state: dict[bytes, bytes]
    sha256: str


steps = st.lists(st.builds(Step, st.integers(1, 400), st.booleans()), max_size=12)


@cache
def tape_records(partition: int) -> list[tuple[int, bytes]]:
    """One tape partition of a small shop, with all that operators and mistakes put on it."""
    return tape_of(feed(SEED, EVENTS, products=80))[partition]


@cache
def uninterrupted(partition: int, kernel: Kernel) -> Run:
    return run(partition, [], kernel)


def run(partition: int, script: list[Step], kernel: Kernel) -> Run:
    """Fold a tape partition by a script, and what it leaves over in one last batch."""
    records = tape_records(partition)
    engine = PartitionEngine.new(partition, kernel)
    committed: dict[bytes, bytes] = {}
    outputs: list[Any] = []
    for step in [*script, Step(len(records), False)]:
        start = engine.position + 1
        batch = engine.apply(records[start : start + step.records])
        if step.crash:
            engine = restored(partition, committed, kernel)
            continue
        outputs += batch.outputs
        for key, value in batch.state:
            if value is None:
                committed.pop(key, None)
            else:
                committed[key] = value
    return Run(outputs, committed, engine.state.sha256())


def restored(partition: int, committed: dict[bytes, bytes], kernel: Kernel) -> PartitionEngine:
    if not committed:
        return PartitionEngine.new(partition, kernel)
    return PartitionEngine.restore(partition, committed.items(), kernel)


@settings(max_examples=40)
@given(partition=st.integers(0, PARTITIONS - 1), script=steps)
def test_a_crash_changes_nothing(partition: int, script: list[Step], kernel: Kernel) -> None:
    assert run(partition, script, kernel) == uninterrupted(partition, kernel)


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_a_crash_before_every_commit_changes_nothing(partition: int, kernel: Kernel) -> None:
    script = [
        Step(25, crash) for _ in range(len(tape_records(partition)) // 25) for crash in (1, 0)
    ]
    assert run(partition, script, kernel) == uninterrupted(partition, kernel)


def test_the_tape_has_what_could_go_wrong(kernel: Kernel) -> None:
    """Else the tests above would prove little: every kind of output, and holds among them."""
    runs = [uninterrupted(partition, kernel) for partition in range(PARTITIONS)]
    topics = {output.topic for one in runs for output in one.outputs}
    assert topics == {"prices", "prices-latest", "alerts", "dead-letter"}
    held = [o for one in runs for o in one.outputs if b'"status":"held"' in o.value]
    assert len(held) > 10
    kinds = {key.split(b"/")[0] for one in runs for key in one.state}
    assert kinds >= {
        b"sku", b"catalogue", b"gate", b"cohort", b"policy", b"returns", b"window", b"manifest",
    }  # fmt: skip
