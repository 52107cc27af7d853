"""Play a scenario: without a broker, live through the Faust agents, or from a finished tape."""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import orjson

from models.fold.context import Output
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from streams.kafka import admin
from streams.kafka.embedded import PARTITIONS, EmbeddedBroker
from streams.kafka.feeder import BY_KEY, Feeder
from streams.kafka.latest_prices import LatestPrices
from streams.settings import Settings
from streams.tape.tape_builder import DeadLetter, TapeBuilder
from streams.worker.engines import PricingEngines
from streams.worker.pricer import publisher_gate
from streams.worker.routes import tape_partition
from streams.worker.worker import WorkerThread
from tests.court.scenario import Scenario
from tests.court.script import Script, Sent
from tests.streams.spine import read_topic, settings_for

WAIT_S = 120.0
COMPARED = ("prices", "prices-latest", "discounts", "alerts")

Tape = dict[int, list[bytes]]  # values by partition, from offset 0


class Letter(NamedTuple):
    """A dead letter: its code, its event, and its tape position where the fold refused it."""

    code: str
    value: bytes
    tape: tuple[int, int] | None


class Played(NamedTuple):
    """The tape of a run and what readers of the output topics see; values sorted by bytes."""

    tape: Tape
    outputs: dict[str, list[bytes]]
    letters: list[Letter]


def in_memory(scenario: Scenario, kernel: Kernel) -> Played:
    """Intake's rules in one loop, then the engine, step by step."""
    refused: list[Letter] = []

    def refuse(letter: DeadLetter) -> None:
        refused.append(Letter(letter.error.code, letter.value or b"", None))

    builder = TapeBuilder(PARTITIONS, on_dead_letter=refuse)
    engines = [PartitionEngine.new(number, kernel) for number in range(PARTITIONS)]
    tape: Tape = {number: [] for number in range(PARTITIONS)}
    outputs: list[Output] = []
    published: dict[str, int] = {}
    script = Script(scenario)
    for number in range(scenario.steps):
        for sent in script.step(number, published):
            for placed in builder.append(sent.topic, sent.value):
                tape[placed.partition].append(placed.value)
        for engine in engines:
            start = engine.position + 1
            records = list(enumerate(tape[engine.partition]))[start:]
            made = engine.apply(records).outputs
            outputs += made
            published |= _effective(one.value for one in made if one.topic == "prices-latest")
    return _played(tape, outputs, refused)


def replay(tape: Tape, kernel: Kernel, letters: list[Letter]) -> Played:
    """Fold a finished tape, each partition in one batch; intake's letters are not on it."""
    outputs: list[Output] = []
    for number, values in tape.items():
        engine = PartitionEngine.new(number, kernel)
        outputs += engine.apply(list(enumerate(values))).outputs
    return _played(tape, outputs, [letter for letter in letters if letter.tape is None])


def _effective(values: Any) -> dict[str, int]:
    found = {}
    for value in values:
        decision = orjson.loads(value)
        found[decision["sku"]] = decision["price_minor"]
    return found


def _played(tape: Tape, outputs: list[Output], refused: list[Letter]) -> Played:
    by_topic: dict[str, list[bytes]] = {topic: [] for topic in COMPARED}
    letters = list(refused)
    for output in outputs:
        if output.topic == "dead-letter":
            letters.append(_letter(output.value, dict(output.headers)))
        else:
            by_topic[output.topic].append(output.value)
    return Played(
        tape,
        {topic: sorted(values) for topic, values in by_topic.items()},
        sorted(letters, key=str),
    )


def _letter(value: bytes, headers: dict[str, bytes]) -> Letter:
    place = headers.get("dl_tape")
    position = None
    if place is not None:
        partition, offset = place.decode().split("-")
        position = int(partition), int(offset)
    return Letter(headers["dl_error"].decode(), value, position)


# -- live


@contextmanager
def embedded() -> Iterator[tuple[Settings, dict[str, Any]]]:
    """Settings for a worker on the embedded broker, and its options."""
    prefix = f"court-{uuid.uuid4().hex[:8]}-"
    with EmbeddedBroker(topic_prefix=prefix) as broker:
        settings = settings_for(broker.bootstrap, prefix, ticks="external", fetch_wait_ms=10)
        yield settings, {"embedded": True}


@contextmanager
def kafka(bootstrap: str) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """The same on a real broker."""
    prefix = f"court-{uuid.uuid4().hex[:8]}-"
    settings = settings_for(bootstrap, prefix, ticks="external")
    admin.create_topics(settings, partitions=PARTITIONS)
    yield settings, {}


def live(
    scenario: Scenario,
    kernel: Kernel,
    settings: Settings,
    options: dict[str, Any],
) -> Played:
    """Play through the Faust agents in lock-step: one source topic after the other, then a look."""
    script = Script(scenario)
    isolation = "read_uncommitted" if options else "read_committed"
    with WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate, **options) as worker:
        feeder = Feeder(settings)
        with LatestPrices(settings, isolation) as latest:
            for number in range(scenario.steps):
                _send(script.step(number, latest.prices), feeder, worker.progress.wait_idle)
                for _ in latest.read():
                    pass
    return from_topics(settings)


def _send(records: list[Sent], feeder: Feeder, wait_idle: Callable[[float], bool]) -> None:
    topic = records[0].topic
    for record in records:
        if record.topic != topic:
            feeder.flush()
            assert wait_idle(WAIT_S), f"the worker was not done with {topic} in time"
            topic = record.topic
        # A product's records lie in one source partition, so they keep their order.
        partition = BY_KEY if record.sku is None else tape_partition(record.sku, PARTITIONS)
        feeder.send(record.topic, record.value, partition)
    feeder.flush()
    assert wait_idle(WAIT_S), f"the worker was not done with {topic} in time"


def from_topics(settings: Settings) -> Played:
    """What a run left on the broker."""
    tape: dict[int, dict[int, bytes]] = defaultdict(dict)
    for message in read_topic(settings, "tape"):
        tape[message.partition()][message.offset()] = message.value()
    outputs = {
        topic: sorted(message.value() for message in read_topic(settings, topic))
        for topic in COMPARED
    }
    letters = [_letter(m.value(), dict(m.headers())) for m in read_topic(settings, "dead-letter")]
    ordered = {
        number: [value for _, value in sorted(tape[number].items())] for number in range(PARTITIONS)
    }
    return Played(ordered, outputs, sorted(letters, key=str))


def decoded(values: list[bytes], kind: type[Any]) -> list[Any]:
    """Output values as records, in tape order."""
    found = [msgspec.json.decode(value, type=kind) for value in values]
    return sorted(found, key=lambda one: (one.tape.partition, one.tape.offset))
