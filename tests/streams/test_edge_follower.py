"""Following a topic on a real broker: order, tombstones, markers, outages, where it starts."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.errors import InputError, ServiceError
from schemas.topics import PRICES_LATEST
from streams.edge.follower import Record, TopicFollower
from streams.kafka import admin
from streams.kafka.kafka_settings import pricer_producer_config
from streams.settings import Settings
from tests.streams.edge_feed import edge_topics
from tests.streams.spine import new_prefix, settings_for, wait_until

BROKER = Path(__file__).parents[2] / "infra" / "kafka" / "broker"
WAIT_S = 60.0


class Writer:
    """Writes ``prices-latest`` in transactions, as the pricer does."""

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.topics.prefix + PRICES_LATEST.name
        self.producer = Producer(pricer_producer_config(settings, 0))
        self.producer.init_transactions()

    def write(self, *records: tuple[int, bytes | None], commit: bool = True) -> None:
        """One transaction of (partition, value); key = value's partition."""
        self.producer.begin_transaction()
        for partition, value in records:
            self.producer.produce(self.topic, value, key=b"A", partition=partition)
        if commit:
            self.producer.commit_transaction()
        else:
            self.producer.flush()
            self.producer.abort_transaction()


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return edge_topics(kafka_bootstrap)


class Seen(list[Record]):
    """What a follower handed over."""

    def values(self, partition: int) -> list[tuple[int, bytes | None]]:
        return [(one.offset, one.value) for one in self if one.partition == partition]


@pytest.mark.kafka
def test_order_tombstones_and_markers(settings: Settings) -> None:
    writer = Writer(settings)
    writer.write((0, b"a"), (1, b"b"), (0, None))
    writer.write((0, b"lost"), commit=False)
    writer.write((0, b"c"))
    seen = Seen()
    follower = TopicFollower(settings, PRICES_LATEST, "t", seen.extend, pytest.fail).start()
    try:
        follower.wait_caught_up(WAIT_S)
        # offsets 2, 4 and 6 of partition 0 are markers, 3 was aborted; the end lies behind them
        assert seen.values(0) == [(0, b"a"), (1, None), (5, b"c")]
        assert seen.values(1) == [(0, b"b")]
        assert follower.positions == {0: 7, 1: 2, 2: 0, 3: 0}
        writer.write((0, b"d"), (3, b"e"))
        wait_until(lambda: len(seen) == 6, "what came later")
        assert (seen.values(0)[-1], seen.values(3)) == ((7, b"d"), [(0, b"e")])
    finally:
        follower.close()


STARTS = [
    ("from the beginning", {}, [b"a", b"b", b"c"]),
    ("from a position", {0: 1}, [b"b", b"c"]),
    ("at the end", {0: 4}, []),
]


@pytest.mark.kafka
@pytest.mark.parametrize(("starts", "values"), [c[1:] for c in STARTS], ids=[c[0] for c in STARTS])
def test_it_starts_where_it_is_told(settings: Settings, starts, values) -> None:
    Writer(settings).write((0, b"a"), (0, b"b"), (0, b"c"))
    seen = Seen()
    follower = TopicFollower(
        settings, PRICES_LATEST, "t", seen.extend, pytest.fail, starts=starts
    ).start()
    follower.wait_caught_up(WAIT_S)
    follower.close()
    assert [one.value for one in seen] == values


@pytest.mark.kafka
def test_a_start_beyond_the_end_is_an_error(settings: Settings) -> None:
    errors: list[BaseException] = []
    follower = TopicFollower(
        settings, PRICES_LATEST, "t", pytest.fail, errors.append, starts={2: 1}
    ).start()
    with pytest.raises(InputError) as caught:
        follower.wait_caught_up(WAIT_S)
    follower.close()
    assert errors == [caught.value]
    assert (caught.value.code, caught.value.where) == (
        "beyond_the_end", f"{settings.topics.prefix}prices-latest[2]",
    )  # fmt: skip


@pytest.mark.kafka
def test_a_topic_that_is_missing_is_an_error(kafka_bootstrap: str) -> None:
    errors: list[BaseException] = []
    settings = settings_for(kafka_bootstrap, new_prefix())
    follower = TopicFollower(settings, PRICES_LATEST, "t", pytest.fail, errors.append).start()
    with pytest.raises(ServiceError, match="does not exist"):
        follower.wait_caught_up(WAIT_S)
    follower.close()
    assert [error.code for error in errors] == ["topic_missing"]  # type: ignore[attr-defined]


@pytest.mark.kafka
def test_what_take_raises_ends_it(settings: Settings) -> None:
    Writer(settings).write((0, b"a"))
    errors: list[BaseException] = []
    bug = RuntimeError("a bug")

    def take(_: list[Record]) -> None:
        raise bug

    follower = TopicFollower(settings, PRICES_LATEST, "t", take, errors.append).start()
    with pytest.raises(RuntimeError):
        follower.wait_caught_up(WAIT_S)
    follower.close()
    assert errors == [bug]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[list[str]]:
    """A broker that the test may stop, as arguments of its script after the verb."""
    place = ["--data", str(tmp_path)]
    yield place
    subprocess.run([BROKER, "stop", *place, "--kill"], check=True)


def broker(verb: str, *arguments: str) -> str:
    return subprocess.run(
        [BROKER, verb, *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@pytest.mark.kafka
def test_it_goes_on_after_the_broker_was_away(own_broker: list[str]) -> None:
    address = broker("start", "--port", "0", *own_broker)
    settings = settings_for(address, new_prefix())
    admin.create_topics(settings, partitions=1)
    Writer(settings).write((0, b"a"))
    seen = Seen()
    follower = TopicFollower(settings, PRICES_LATEST, "t", seen.extend, pytest.fail).start()
    try:
        follower.wait_caught_up(WAIT_S)
        broker("stop", *own_broker, "--kill")
        wait_until(lambda: follower.broker_away, "the outage is noticed")
        broker("start", *own_broker)
        Writer(settings).write((0, b"b"))
        wait_until(lambda: len(seen) == 2, "what came after the outage")
        assert ([one.value for one in seen], follower.broker_away) == ([b"a", b"b"], False)
    finally:
        follower.close()
