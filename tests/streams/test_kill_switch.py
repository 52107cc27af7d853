"""The kill switch: no effective price leaves once it is thrown, whatever waits before it."""

from collections.abc import Iterator

import orjson
import pytest

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas.topics import CONTROLS, TAPE
from streams.settings import Settings
from streams.worker.engines import PricingEngines
from streams.worker.kill_switch import KillSwitch, Part, withheld
from streams.worker.outbox import IntakeOutbox, Send
from streams.worker.pricer import publisher_gate
from streams.worker.worker import WorkerThread
from tests.models.tapes import Tape, at, event
from tests.streams.counting_engine import Batch, Output
from tests.streams.spine import Shop, fresh_topics, read_topic, wait_until

WAIT_S = 60.0
SKUS = ("A", "B", "C")


def control(kind: str, number: int, **fields: object) -> bytes:
    return orjson.dumps(event(kind, at(minutes=number), f"c-{number}", **fields))


def following(*offsets: int) -> KillSwitch:
    """A switch that has seen the command at these offsets; it follows nothing."""
    switch = KillSwitch(Settings(), pytest.fail)
    switch._seen.extend(offsets)
    return switch


RECORDS = Tape()
LISTED = RECORDS.add("product_listed", at())
TICK = RECORDS.add("clock_ticked", at(minutes=1))  # offset 0 of controls
ON = RECORDS.add("operator_command", at(minutes=2), command="kill_switch_on")  # offset 1
COST = RECORDS.add("cost_changed", at(minutes=3), unit_cost_minor=510)
LATER = RECORDS.add("clock_ticked", at(minutes=4))  # offset 2

PARTS = [
    # why, offsets of switches seen, controls read, records, parts
    ("no switch", (), -1, [LISTED, TICK], [Part([LISTED, TICK], False)]),
    ("read long ago", (1,), 1, [COST, LATER], [Part([COST, LATER], False)]),
    ("a backlog before it", (1,), -1, [LISTED, TICK], [Part([LISTED, TICK], True)]),
    ("the tape brings it", (1,), -1, [LISTED, TICK, ON, COST],
     [Part([LISTED, TICK], True), Part([ON, COST], False)]),
    ("it comes first", (1,), 0, [ON, COST], [Part([ON, COST], False)]),
    ("intake refused it: what follows on controls lifts it", (1,), 0, [COST, LATER],
     [Part([COST], True), Part([LATER], False)]),
    ("thrown on, off and on again", (1, 9), -1, [TICK, ON, COST], [Part([TICK, ON, COST], True)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "read", "records", "parts"), [case[1:] for case in PARTS], ids=[c[0] for c in PARTS]
)
def test_a_batch_is_cut_where_the_tape_brings_the_switch(seen, read, records, parts) -> None:
    assert following(*seen).parts(records, read) == parts


def test_what_is_held_back_is_what_makes_a_price_effective() -> None:
    kept = [
        Output("prices", b"A", b"{}"),
        Output("alerts", None, b"{}"),
        Output("discounts", b"A", b'{"status":"withdrawn"}'),
    ]
    gone = [
        Output("prices-latest", b"A", b"{}"),
        Output("discounts", b"A", b'{"status":"offered"}'),
    ]
    state = [(b"manifest", b"{}")]
    assert withheld(Batch([*kept, *gone], state, 7), 0) == (kept, state, 7)


# -- on a broker


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap, role="pricer")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.warm()


@pytest.fixture
def outbox(settings: Settings) -> Iterator[IntakeOutbox]:
    outbox = IntakeOutbox(settings)
    yield outbox
    outbox.close()


def latest(settings: Settings) -> list[tuple[str, int]]:
    decisions = [orjson.loads(message.value()) for message in read_topic(settings, "prices-latest")]
    return [(decision["sku"], decision["version"]) for decision in decisions]


@pytest.mark.kafka
def test_prices_stop_before_the_tape_brings_the_switch(
    settings: Settings, outbox: IntakeOutbox, kernel: Kernel
) -> None:
    tape = Tape()

    def put(*records: tuple[int, bytes]) -> None:
        outbox.send(Send(TAPE.name, None, value, 0) for _, value in records)

    def decisions() -> list[bytes]:
        """In tape order: the topic's partitions go by SKU."""
        values = [message.value() for message in read_topic(settings, "prices")]
        return sorted(values, key=lambda value: orjson.loads(value)["tape"]["offset"])

    def decided() -> list[str]:
        return [orjson.loads(value)["status"] for value in decisions()]

    put(tape.add("clock_ticked", at()))
    put(tape.add("product_listed", at(), sku="A"))
    with WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate) as worker:
        assert worker.progress.wait_for("tape", 0, 2, WAIT_S)
        assert latest(settings) == [("A", 1)]
        # the operator throws it; the tape has not got it, and 3 decisions come before it
        offset = 1
        shop = Shop(settings)
        shop.raw(CONTROLS.name, None, control("clock_ticked", 0))
        thrown = control("operator_command", 1, command="kill_switch_on")
        shop.raw(CONTROLS.name, None, thrown)
        shop.producer.flush()
        switch = worker.worker._parts[0].switch  # type: ignore[union-attr]
        wait_until(lambda: switch.pending(0) == offset, "the switch is seen")
        put(*[tape.add("product_listed", at(minutes=1), sku=sku) for sku in ("B", "C")])
        put(tape.add("cost_changed", at(minutes=1), unit_cost_minor=700))
        assert worker.progress.wait_for("tape", 0, 5, WAIT_S)
        assert decided() == ["published"] * 4
        assert latest(settings) == [("A", 1)]
    # a new owner of the partition knows of it before it commits anything
    with WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate) as worker:
        put(tape.add("cost_changed", at(minutes=1), sku="B", unit_cost_minor=650))
        assert worker.progress.wait_for("tape", 0, 6, WAIT_S)
        assert latest(settings) == [("A", 1)]
        # the tape brings it, and later its end
        put(tape.add("operator_command", at(minutes=1), command="kill_switch_on"))
        put(tape.add("cost_changed", at(minutes=2), sku="C", unit_cost_minor=610))
        assert worker.progress.wait_for("tape", 0, 8, WAIT_S)
        assert decided()[-1] == "held"
        put(tape.add("operator_command", at(minutes=3), command="kill_switch_off"))
        put(tape.add("clock_ticked", at(minutes=4)))
        assert worker.progress.wait_for("tape", 0, 10, WAIT_S)
        found = latest(settings)
        found.remove(("A", 1))
        assert sorted(sku for sku, _ in found) == list(SKUS)
    # bytes and state followed the tape alone
    engine = PartitionEngine.new(0, kernel)
    outputs = engine.apply(tape.records).outputs
    replayed = [output.value for output in outputs if output.topic == "prices"]
    assert sorted(decisions()) == sorted(replayed)
