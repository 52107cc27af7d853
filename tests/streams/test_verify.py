"""``pricemaker verify``: what a worker published is confirmed, what was tampered with is named."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from models.simulator.simulator import Shop
from models.simulator.simulator_truth import ShopSettings
from schemas.codec import canonical
from schemas.topics import PRICES, PRICES_LATEST, STATE, TAPE
from streams.cli import cli
from streams.config import load_settings
from streams.kafka import admin
from streams.kafka.kafka_settings import group_id
from streams.settings import Settings
from streams.tape.event_files import event_key
from streams.verify.verification import differing_fields
from streams.worker.engines import PricingEngines, warm_kernel
from streams.worker.pricer import publisher_gate
from streams.worker.worker import WorkerThread
from tests.streams.spine import Shop as Sources
from tests.streams.spine import fresh_topics, new_prefix, read_topic, settings_for

IDLE_S = 60.0
DAYS = 12
Record = tuple[int, bytes | None, bytes | None]  # partition, key, value
Change = Callable[[list[Record]], list[Record]]

MISSING, REPEATED = 10, 20  # places on `prices` of what is taken away and written twice


class History(NamedTuple):
    """What a worker made of a simulated shop's events, on a real broker."""

    settings: Settings
    tape: list[Record]
    state: list[Record]
    prices: list[Record]
    latest: list[Record]

    def decision(self, number: int) -> dict[str, Any]:
        """One decision, in the order of the topic."""
        return orjson.loads(self.prices[number][2] or b"")

    def superseded(self) -> int:
        """An effective decision that a later one of its product took the place of.

        Altered, it is not what `prices-latest` has.
        """
        last: dict[bytes | None, int] = {}
        for number in range(len(self.prices)):
            if self.decision(number)["status"] != "held":
                last[self.prices[number][1]] = number
        return next(
            number
            for number in range(len(self.prices))
            if number not in (MISSING, REPEATED)
            and self.decision(number)["status"] != "held"
            and last[self.prices[number][1]] > max(number, MISSING, REPEATED)
        )


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """The kernels that the command will have."""
    return warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)


@pytest.fixture(scope="module")
def history(kafka_bootstrap: str, kernel: Kernel) -> History:
    settings = fresh_topics(kafka_bootstrap)
    shop = Shop(5, settings=ShopSettings(products=8, step_hours=12, traffic_hours=12))
    sources = Sources(settings)
    with WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate) as worker:
        for _ in range(DAYS * 2):
            for topic, value in shop.step({}):
                key = event_key(value)
                sources.raw(topic, key.decode() if key else None, value)
        sources.flush()
        assert worker.progress.wait_idle(IDLE_S)
    topics = (read(settings, topic.name) for topic in (TAPE, STATE, PRICES, PRICES_LATEST))
    return History(settings, *topics)


def read(settings: Settings, topic: str) -> list[Record]:
    return [(m.partition(), m.key(), m.value()) for m in read_topic(settings, topic)]


def same(records: list[Record]) -> list[Record]:
    return records


def copy(history: History, prices: Change = same, state: Change = same) -> Settings:
    """The same history under a topic prefix of its own, changed on the way."""
    settings = settings_for(history.settings.kafka.bootstrap, new_prefix())
    admin.create_topics(settings, partitions=4)
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    for topic, records in (
        (TAPE, history.tape),
        (STATE, state(history.state)),
        (PRICES, prices(history.prices)),
        (PRICES_LATEST, history.latest),
    ):
        for partition, key, value in records:
            name = settings.topics.prefix + topic.name
            producer.produce(name, value, key, partition)
            producer.poll(0)
    assert producer.flush(IDLE_S) == 0
    return settings


def run(settings: Settings, *options: str) -> Any:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
    }
    return CliRunner().invoke(cli, ["verify", *options], env=environment)


def verified(settings: Settings) -> tuple[int, dict[str, Any]]:
    """Exit code and document."""
    result = run(settings, "--json")
    return result.exit_code, json.loads(result.stdout)


def changed(number: int, **fields: Any) -> Change:
    """Prices with some fields of one decision changed."""

    def change(records: list[Record]) -> list[Record]:
        partition, key, value = records[number]
        body = orjson.loads(value or b"") | fields
        written = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        return [*records[:number], (partition, key, written), *records[number + 1 :]]

    return change


def place(decision: dict[str, Any]) -> str:
    return f"tape[{decision['tape']['partition']}]@{decision['tape']['offset']}"


@pytest.mark.kafka
def test_what_a_worker_published_is_confirmed(history: History, kernel: Kernel) -> None:
    code, document = verified(history.settings)
    engine = kernel.fingerprint.split(" ")[0]
    decisions = len(history.prices)
    assert decisions > 25
    positions = [
        sum(number == partition for partition, _, _ in history.tape) - 1 for number in range(4)
    ]
    segments = document.pop("segments")
    assert sum(one["confirmed"] for one in segments) == decisions
    assert {(one["engine"], one["mode"], one["announced"]) for one in segments} == {
        (engine, "bytes", True)
    }
    assert 0 < document.pop("window_decisions") <= decisions
    assert (code, document) == (
        0,
        {
            "tape_records": len(history.tape),
            "decisions": decisions,
            "reproduced": decisions,
            **dict.fromkeys(
                ("agreed", "altered", "missing", "unexpected", "repeated", "reordered",
                 "version_gap", "unannounced_engine", "latest_differs", "manifest_differs",
                 "before_checkpoint", "held_back"), 0,
            ),
            "latest": len({key for _, key, _ in history.latest}),
            "engine": engine,
            "engines_published": {engine: decisions},
            "segments_total": len(segments),
            "ranges": [
                {"partition": number, "first_offset": 0, "last_offset": last,
                 "from_checkpoint": False, "manifest_agrees": True}
                for number, last in enumerate(positions)
            ],
            "engine_changes": [],
            "first_divergence": [],
            "differences": [],
            "confirmed": True,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def tampered(history: History) -> Settings:
    """The history with one decision altered, one taken away, one written twice, one invented."""
    number = history.superseded()
    altered = history.decision(number)
    invented = altered | {"price_id": "0-0-NOBODY", "sku": "NOBODY", "status": "held"}

    def tamper(prices: list[Record]) -> list[Record]:
        found = changed(number, price_minor=altered["price_minor"] + 1)(prices)
        del found[MISSING]
        return [*found, prices[REPEATED], (0, b"NOBODY", orjson.dumps(invented))]

    return copy(history, tamper)


@pytest.mark.kafka
def test_every_kind_of_tampering_is_named(history: History, tampered: Settings) -> None:
    places = history.superseded(), MISSING, REPEATED
    altered, missing, repeated = map(history.decision, places)
    result = run(tampered, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["confirmed"]) == (5, False)
    shown = ("kind", "price_id", "tape", "fields")
    found = {one["kind"]: {name: one[name] for name in shown} for one in document["differences"]}
    price = altered["price_minor"]
    assert found == {
        "altered": {
            "kind": "altered", "price_id": altered["price_id"], "tape": place(altered),
            "fields": {"price_minor": [price + 1, price]},
        },
        "missing": {
            "kind": "missing", "price_id": missing["price_id"], "tape": place(missing),
            "fields": {},
        },
        "repeated": {
            "kind": "repeated", "price_id": repeated["price_id"], "tape": place(repeated),
            "fields": {},
        },
        "unexpected": {
            "kind": "unexpected", "price_id": "0-0-NOBODY", "tape": place(altered), "fields": {},
        },
    }  # fmt: skip
    counts = {kind: document[kind] for kind in found}
    assert counts == {"altered": 1, "missing": 1, "repeated": 1, "unexpected": 1}
    assert document["reproduced"] == len(history.prices) - 2
    error = json.loads(result.stderr)
    assert (error["code"], error["message"]) == (
        "not_reproduced",
        f"of {len(history.prices) + 1} decisions: "
        "1 altered, 1 missing, 1 unexpected, 1 repeated.",
    )  # fmt: skip


@pytest.mark.kafka
def test_text_for_people_shows_both_values(history: History, tampered: Settings) -> None:
    altered = history.decision(history.superseded())
    price = altered["price_minor"]
    result = run(tampered)
    assert result.exit_code == 5
    text = " ".join(result.stdout.split())
    assert f"altered {altered['price_id']} at {place(altered)}" in text
    assert f"price_minor: published {price + 1}, recomputed {price}" in text


@pytest.mark.kafka
def test_beside_a_running_worker(kafka_bootstrap: str, kernel: Kernel) -> None:
    """What is committed when it begins is confirmed; the worker goes on, and no group is joined."""
    settings = fresh_topics(kafka_bootstrap)
    shop = Shop(6, settings=ShopSettings(products=4, step_hours=12, traffic_hours=12))
    sources = Sources(settings)

    def feed(steps: int) -> None:
        for _ in range(steps):
            for topic, value in shop.step({}):
                key = event_key(value)
                sources.raw(topic, key.decode() if key else None, value)
        sources.flush()

    with WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate) as worker:
        feed(6)
        assert worker.progress.wait_idle(IDLE_S)
        committed = len(read(settings, PRICES.name))
        feed(12)
        code, document = verified(settings)
        assert (code, document["confirmed"]) == (0, True)
        assert document["decisions"] == document["reproduced"] >= committed > 0
        assert worker.progress.wait_idle(IDLE_S)
    code, document = verified(settings)
    assert (code, document["decisions"]) == (0, len(read(settings, PRICES.name)))
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    groups = [one.group_id for one in client.list_consumer_groups().result().valid]
    assert [name for name in groups if name.startswith(settings.topics.prefix)] == [
        group_id(settings)
    ]


@pytest.mark.kafka
def test_what_the_pricer_has_not_committed_is_left_out(history: History, kernel: Kernel) -> None:
    """As seen while the pricer runs: decisions beyond the manifest's position are for next time."""
    decided = [orjson.loads(value or b"")["tape"] for _, _, value in history.prices]
    number = decided[-1]["partition"]
    mine = [one["offset"] for one in decided if one["partition"] == number]
    engine = PartitionEngine.new(number, kernel)
    tape = [value or b"" for partition, _, value in history.tape if partition == number]
    engine.apply(list(enumerate(tape[: max(mine)])))

    def earlier(state: list[Record]) -> list[Record]:
        manifest = canonical(engine.state.manifest)
        return [*state, (number, b"manifest", manifest)]

    code, document = verified(copy(history, state=earlier))
    left_out = sum(offset == max(mine) for offset in mine)
    # a price that the pricer would not have shown yet is on prices-latest: it is newer, and left
    assert (code, document["decisions"], document["reproduced"]) == (
        0, len(decided) - left_out, len(decided) - left_out,
    )  # fmt: skip


@pytest.mark.kafka
def test_a_tape_without_its_beginning_proves_nothing(history: History) -> None:
    settings = copy(history)
    assert verified(settings)[0] == 0  # the copy is as good as the original
    name = settings.topics.prefix + TAPE.name
    partition = max(number for number, _, _ in history.prices)
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    for future in client.delete_records([TopicPartition(name, partition, 5)]).values():
        future.result()
    result = run(settings, "--json")
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["where"]) == (
        3, "tape_cut", f"{name}[{partition}]",
    )  # fmt: skip
    assert error["message"] == "the tape begins at offset 5; expected 0."


@pytest.mark.kafka
def test_topics_that_were_never_made(kafka_bootstrap: str) -> None:
    result = run(settings_for(kafka_bootstrap, "never-made-"), "--json")
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["where"]) == (
        4, "topic_missing", "never-made-tape",
    )  # fmt: skip


@pytest.mark.kafka
def test_a_tape_on_kafka_replays_to_the_published_bytes(history: History, tmp_path: Any) -> None:
    out = tmp_path / "decisions.jsonl"
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": history.settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": history.settings.topics.prefix,
    }
    result = CliRunner().invoke(
        cli, ["replay", "kafka", "--json", "--out", str(out)], env=environment
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["records"] == len(history.tape)
    assert sorted(out.read_bytes().splitlines()) == sorted(value for *_, value in history.prices)


def leaves() -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    yield {"a": 1}, {"a": 1}, {}
    yield {"a": 1}, {"a": 2}, {"a": (1, 2)}
    yield {"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, {"a.b.1": (2, 3)}
    yield {"a": [1]}, {"a": [1, 2]}, {"a": ([1], [1, 2])}
    yield {"a": None}, {}, {"a": (None, "(absent)")}
    yield {}, {"b": 0}, {"b": ("(absent)", 0)}
    yield {"a": {"b": 1}}, {"a": 1}, {"a": ({"b": 1}, 1)}


@pytest.mark.parametrize(("published", "again", "fields"), list(leaves()))
def test_fields_that_differ_are_shown_by_their_place(published, again, fields) -> None:
    assert differing_fields(published, again) == fields
