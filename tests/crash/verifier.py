"""Did a run keep its promises? Judged from the topics, in code that shares nothing with the worker
beyond ``schemas`` and ``models``.

I1 each source record is applied, a repeat or dead-lettered; none is lost. I2 state equals
fold(tape). I3 versions per SKU are gapless and rising. I4 a tape position always gives the same
bytes. I5 nothing below a committed offset is missing from what was durable then. I6 live,
recovered and replayed state are the same. I7 no published price breaks a guard. I8 lag returns to
0. I10 no secret is in a log.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import orjson

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas import tape
from schemas.events import OperatorCommand
from schemas.topics import SOURCES
from tests.crash import accounts
from tests.crash.evidence import Evidence, Record
from tests.oracle import Oracle

BATCH = 5_000
SMALL_BATCH = 7
SINGLES_MAX = 600  # records per partition that are also folded one by one
VIOLATIONS_MAX = 20  # per invariant: a torn run breaks everything


class Violation(NamedTuple):
    """One broken promise."""

    invariant: str
    what: str


class Verdict(NamedTuple):
    """What was found broken, and what was looked at."""

    violations: list[Violation]
    counts: dict[str, int]

    def broken(self) -> list[str]:
        """The invariants with a violation, each once."""
        return sorted({violation.invariant for violation in self.violations})


class Folded(NamedTuple):
    """A tape partition, folded from its beginning."""

    outputs: list[Any]
    written: dict[bytes, bytes]  # what all batches together leave on the state topic
    engine: PartitionEngine


def verify(evidence: Evidence, kernel: Kernel) -> Verdict:
    """Check every invariant; one violation names one fact."""
    letters = accounts.letters_of(evidence)
    entries = accounts.entries_of(evidence, letters)
    folds = {
        partition: fold(partition, evidence.partition("tape", partition), kernel, BATCH)
        for partition in range(partitions_of(evidence))
    }
    found: list[Violation] = []
    for invariant, facts in (
        ("I1", _accounted(evidence, entries, letters)),
        ("I1", _counted(entries, folds)),
        ("I2", _state_is_fold(evidence, folds)),
        ("I3", _versions(evidence)),
        ("I4", _same_bytes(evidence, folds)),
        ("I4", _any_batches(evidence, folds, kernel)),
        ("I5", _committed_is_durable(evidence)),
        ("I6", _recovered_is_folded(evidence, folds, kernel)),
        ("I7", _guards_hold(evidence, entries)),
        ("I7", _latest_is_last_published(evidence)),
        ("I8", _no_lag(evidence)),
        ("I10", _no_secret(evidence)),
    ):
        found += [Violation(invariant, fact) for fact in islice(facts, VIOLATIONS_MAX)]
    fates = Counter(entry.fate for entry in entries)
    counts = {topic: len(records) for topic, records in sorted(evidence.topics.items())}
    return Verdict(found, counts | {f"tape {name}": n for name, n in sorted(fates.items())})


def partitions_of(evidence: Evidence) -> int:
    """How many partitions the tape has, as far as it was written."""
    return 1 + max(record.partition for record in evidence.topics["tape"])


def fold(partition: int, records: list[Record], kernel: Kernel, batch: int) -> Folded:
    """Fold a tape partition from its beginning, in batches of one size."""
    engine = PartitionEngine.new(partition, kernel)
    outputs: list[Any] = []
    written: dict[bytes, bytes] = {}
    for start in range(0, len(records), batch):
        part = records[start : start + batch]
        done = engine.apply([(record.offset, record.value or b"") for record in part])
        outputs += done.outputs
        for key, value in done.state:
            if value is None:
                written.pop(key, None)
            else:
                written[key] = value
    return Folded(outputs, written, engine)


# -- I1


def _accounted(
    evidence: Evidence, entries: list[accounts.Entry], letters: list[accounts.Letter]
) -> Iterator[str]:
    fates = accounts.fates_by_source(entries)
    refused: dict[accounts.Source, set[str]] = defaultdict(set)
    for letter in letters:
        if letter.stage == "intake":
            refused[letter.source].add(letter.error)
    values = {
        (topic.name, record.partition, record.offset): record
        for topic in SOURCES
        for record in evidence.topics[topic.name]
    }
    everywhere = partitions_of(evidence)
    expected = accounts.expectations(evidence)
    for source, want in expected.items():
        fresh = sum(n for fate, n in fates[source].items() if fate != "stale")
        due = everywhere if want.is_control else 1
        errors = refused[source]
        if want.error is not None:
            if fresh or errors != {want.error}:
                yield f"{source} should be refused ({want.error}): {errors}, {fresh} on the tape"
        elif fresh == 0 and want.is_stale_tick:
            continue
        elif fresh != due:
            yield f"{source} is fresh {fresh} times on the tape, not {due}; letters: {errors}"
        elif errors:
            yield f"{source} is on the tape and was refused: {errors}"
    for source in fates.keys() | refused.keys():
        if source not in expected:
            yield f"{source} was never sent"
    yield from _bytes_kept(evidence, entries, letters, values)


def _bytes_kept(
    evidence: Evidence,
    entries: list[accounts.Entry],
    letters: list[accounts.Letter],
    values: dict[accounts.Source, Record],
) -> Iterator[str]:
    """Tape and dead letters hold the original's bytes; a letter also its key and headers."""
    records = {(r.partition, r.offset): r for r in evidence.topics["tape"]}
    for entry in entries:
        original = values.get(entry.source)
        wrapped = records[entry.partition, entry.offset].value or b""
        if original is not None and tape.raw_event(wrapped) != original.value:
            yield f"{entry.source} has other bytes at tape {entry.partition}-{entry.offset}"
    for letter in letters:
        original = values.get(letter.source)
        if original is None:
            continue
        kept = tuple(h for h in letter.record.headers if not h[0].startswith("dl_"))
        if (letter.record.key, letter.record.value) != (original.key, original.value) and (
            letter.stage == "intake" or letter.record.value != original.value
        ):
            yield f"the letter of {letter.source} has another key or value"
        if letter.stage == "intake" and kept != original.headers:
            yield f"the letter of {letter.source} has other headers"


def _counted(entries: list[accounts.Entry], folds: dict[int, Folded]) -> Iterator[str]:
    """The manifest's counts are those of our own walk over the tape."""
    for partition, folded in folds.items():
        fates = Counter(entry.fate for entry in entries if entry.partition == partition)
        manifest = orjson.loads(folded.written[b"manifest"])["counts"]
        ours = {
            "applied": fates["applied"],
            "duplicates": fates["stale"] + fates["repeat"],
            "dead_letters": fates["refused"],
        }
        theirs = {name: manifest[name] for name in ours}
        if ours != theirs:
            yield f"tape[{partition}] counts {theirs}, we count {ours}"


# -- I2, I6


def _live(evidence: Evidence, partition: int) -> dict[bytes, bytes]:
    live: dict[bytes, bytes] = {}
    for record in evidence.partition("state", partition):
        if record.value is None:
            live.pop(record.key or b"", None)
        else:
            live[record.key or b""] = record.value
    return live


def _state_is_fold(evidence: Evidence, folds: dict[int, Folded]) -> Iterator[str]:
    for partition, folded in folds.items():
        live = _live(evidence, partition)
        for key in sorted(live.keys() | folded.written.keys()):
            if live.get(key) != folded.written.get(key):
                yield (
                    f"state[{partition}] {key.decode()} is {_short(live.get(key))}, "
                    f"fold(tape) says {_short(folded.written.get(key))}"
                )


def _recovered_is_folded(
    evidence: Evidence, folds: dict[int, Folded], kernel: Kernel
) -> Iterator[str]:
    for partition, folded in folds.items():
        live = _live(evidence, partition).items()
        recovered = PartitionEngine.restore(partition, live, kernel).state
        if recovered.all_records() != folded.engine.state.all_records():
            yield f"state[{partition}] recovers to other records than the fold's"
        if recovered.sha256() != folded.engine.state.sha256():
            yield f"state[{partition}] recovers to another hash than the fold's"


# -- I3


def _versions(evidence: Evidence) -> Iterator[str]:
    seen: dict[str, int] = defaultdict(int)
    home: dict[str, int] = {}
    for record in evidence.topics["prices"]:
        decision = orjson.loads(record.value or b"")
        sku, version = decision["sku"], decision["version"]
        if record.key != sku.encode() or home.setdefault(sku, record.partition) != record.partition:
            yield f"a decision on {sku} lies under {record.key!r} in prices[{record.partition}]"
        if version != seen[sku] + 1:
            yield f"{sku} has version {version} after {seen[sku]}"
        seen[sku] = version


# -- I4


def _same_bytes(evidence: Evidence, folds: dict[int, Folded]) -> Iterator[str]:
    """What was published is what the fold gives: key, value and headers of every record."""
    published: Counter[Any] = Counter()
    for topic in ("prices", "prices-latest", "discounts", "alerts", "dead-letter"):
        for record in evidence.topics[topic]:
            if (b"fold" in dict(record.headers).values()) or topic != "dead-letter":
                published[(topic, record.key, record.value, record.headers)] += 1
    again = Counter(
        (output.topic, output.key, output.value, tuple(output.headers))
        for folded in folds.values()
        for output in folded.outputs
    )
    yield from _differences(published, again - _held_back(evidence, published, again))


def _held_back(evidence: Evidence, published: Counter[Any], again: Counter[Any]) -> Counter[Any]:
    """Effective prices that may be missing: of decisions committed after a kill switch was thrown
    and before the tape brought it; the outbox does not wait for it.
    """
    thrown_ms = {record.offset: record.appended_ms for record in evidence.topics["controls"]}
    switches: dict[int, list[tuple[int, int]]] = defaultdict(list)  # tape offset, when thrown
    for record in evidence.topics["tape"]:
        found = tape.decode(record.value or b"")
        if found.source.topic == "controls" and _throws_switch(found.event):
            place = (record.offset, thrown_ms[found.source.offset])
            switches[record.partition].append(place)
    decided_ms = {record.value: record.appended_ms for record in evidence.topics["prices"]}
    allowed: Counter[Any] = Counter()
    for one, count in (again - published).items():
        topic, _, value, _ = one
        if topic != "prices-latest" or value not in decided_ms:
            continue
        at = orjson.loads(value)["tape"]
        if any(
            at["offset"] < offset and thrown <= decided_ms[value]
            for offset, thrown in switches[at["partition"]]
        ):
            allowed[one] = count
    return allowed


def _throws_switch(event: Any) -> bool:
    return (
        isinstance(event, OperatorCommand)
        and event.command == "kill_switch_on"
        and event.scope.kind == "catalogue"
    )


def _differences(published: Counter[Any], again: Counter[Any]) -> Iterator[str]:
    for (topic, key, value, _), count in (published - again).items():
        yield f"{topic} has {key!r} {_short(value)} {count} times more than fold(tape)"
    for (topic, key, value, _), count in (again - published).items():
        yield f"{topic} lacks {key!r} {_short(value)}, {count} times"


def _any_batches(evidence: Evidence, folds: dict[int, Folded], kernel: Kernel) -> Iterator[str]:
    """Batches of 7, and single records over a first part, give the bytes of batches of 5,000."""
    for partition, folded in folds.items():
        records = evidence.partition("tape", partition)
        small = fold(partition, records, kernel, SMALL_BATCH)
        if small.outputs != folded.outputs or small.written != folded.written:
            yield f"tape[{partition}] gives other bytes in batches of {SMALL_BATCH}"
        head = fold(partition, records[:SINGLES_MAX], kernel, 1)
        if head.outputs != folded.outputs[: len(head.outputs)]:
            yield f"tape[{partition}] gives other bytes one by one"


# -- I5


def _committed_is_durable(evidence: Evidence) -> Iterator[str]:
    tape_at: dict[accounts.Source, list[tuple[int, int]]] = defaultdict(list)
    for record in evidence.topics["tape"]:
        place = tape.decode(record.value or b"").source
        where = (record.partition, record.offset)
        tape_at[place.topic, place.partition, place.offset].append(where)
    letters = {
        letter.source: (letter.record.partition, letter.record.offset)
        for letter in reversed(accounts.letters_of(evidence))
        if letter.stage == "intake"
    }
    stale = {s for s, want in accounts.expectations(evidence).items() if want.is_stale_tick}
    manifests = {
        partition: [
            (record.offset, orjson.loads(record.value or b"")["position"])
            for record in evidence.partition("state", partition)
            if record.key == b"manifest"
        ]
        for partition in range(partitions_of(evidence))
    }
    checked: dict[tuple[str, int], int] = defaultdict(int)
    for sample in evidence.samples:
        for (topic, partition), committed in sample.committed.items():
            if topic == "tape":
                end = sample.ends["state", partition]
                applied = [position for at, position in manifests[partition] if at < end]
                if committed > max(applied, default=-1) + 1:
                    yield f"tape[{partition}] was committed at {committed}, durable: {applied[-1:]}"
                continue
            start = checked[topic, partition]
            checked[topic, partition] = max(start, committed)
            for offset in range(start, committed):
                source = (topic, partition, offset)
                at = [
                    where for where in tape_at[source] if where[1] < sample.ends["tape", where[0]]
                ]
                letter = letters.get(source)
                kept = letter is not None and letter[1] < sample.ends["dead-letter", letter[0]]
                if not at and not kept and source not in stale:
                    yield f"{source} was committed and neither on the tape nor a dead letter"


# -- I7


def _guards_hold(evidence: Evidence, entries: list[accounts.Entry]) -> Iterator[str]:
    decisions: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for record in evidence.topics["prices"]:
        decision = orjson.loads(record.value or b"")
        place = decision["tape"]
        decisions[place["partition"], place["offset"]].append(decision)
    oracles: dict[int, Oracle] = defaultdict(Oracle)
    for entry in entries:
        oracle = oracles[entry.partition]
        oracle.observe(entry.event, applied=entry.fate == "applied")
        for decision in decisions.pop((entry.partition, entry.offset), []):
            for what in oracle.judge(decision):
                yield f"{decision['price_id']}: {what}"
    for place in decisions:
        yield f"a decision names tape {place}, which does not exist"


def _latest_is_last_published(evidence: Evidence) -> Iterator[str]:
    last: dict[bytes | None, bytes | None] = {}
    for record in evidence.topics["prices"]:
        if orjson.loads(record.value or b"")["status"] in ("published", "reverted"):
            last[record.key] = record.value
    latest = {record.key: record.value for record in evidence.topics["prices-latest"]}
    for key in sorted(last.keys() | latest.keys(), key=repr):
        if latest.get(key) != last.get(key):
            yield f"prices-latest has {_short(latest.get(key))} for {key!r}, not the last published"


# -- I8, I10


def _no_lag(evidence: Evidence) -> Iterator[str]:
    if not evidence.samples:
        yield "the run was never looked at"
        return
    last = evidence.samples[-1]
    for topic, partition in _read(last.ends):
        end, committed = last.ends[topic, partition], last.committed.get((topic, partition), 0)
        if committed != end:
            yield f"{topic}[{partition}] is committed at {committed} of {end}"


def _read(places: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    read = {topic.name for topic in SOURCES} | {"tape"}
    return (place for place in sorted(places) if place[0] in read)


def _no_secret(evidence: Evidence) -> Iterator[str]:
    for name, text in evidence.logs.items():
        for secret in evidence.secrets:
            if secret in text:
                yield f"the log of {name} holds the secret that begins with {secret[:4]!r}"


def _short(value: bytes | None) -> str:
    return "nothing" if value is None else value[:120].decode("utf-8", "replace")
