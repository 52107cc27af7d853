"""How fresh prices are in event time: the cases, and the topics of a real broker."""

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.lag.freshness import (
    NO_EVENTS,
    NO_STATE,
    NO_TICK,
    NOT_ALL,
    Freshness,
    _freshness,
    _Manifest,
)
from streams.lag.monitor import Looker, own_groups
from tests.streams.spine import Shop, fresh_topics, order

CLOCK_MS = 1_000_000
BEHIND_MS = 90_000
NEWEST_MS = CLOCK_MS + BEHIND_MS
READ = _Manifest(position=9, clock_ms=CLOCK_MS)

# why, end of the tape, manifest, newest event, sources waiting, expected (behind, waiting, unknown)
CASES = [
    ("all is applied, whatever the clock's minute", 10, READ, NEWEST_MS, False, (0, 0, None)),
    ("the tape waits", 12, READ, NEWEST_MS, False, (BEHIND_MS, 2, None)),
    ("the sources wait", 10, READ, NEWEST_MS, True, (BEHIND_MS, 0, None)),
    ("both, and how much of the sources is not known", 12, READ, NEWEST_MS, None,
     (BEHIND_MS, 2, None)),
    ("whether sources wait is not known", 10, READ, NEWEST_MS, None, (None, 0, NOT_ALL)),
    ("an old event waits", 12, READ, CLOCK_MS - 5, True, (0, 2, None)),
    ("no worker was here yet", 12, None, NEWEST_MS, True, (None, 12, NO_STATE)),
    ("no worker was here yet, and nothing to do", 0, None, None, False, (0, 0, None)),
    ("no tick yet", 12, _Manifest(position=9), NEWEST_MS, True, (None, 2, NO_TICK)),
    ("nothing that can be read waits", 12, READ, None, True, (None, 2, NO_EVENTS)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "end", "manifest", "newest_ms", "sources", "expected"), CASES)
def test_freshness_of_one_partition(why, end, manifest, newest_ms, sources, expected) -> None:
    behind_ms, waiting, unknown = expected
    assert _freshness(3, end, manifest, newest_ms, sources) == Freshness(
        partition=3,
        event_time_applied_ms=None if manifest is None else manifest.clock_ms,
        event_time_newest_ms=newest_ms,
        behind_ms=behind_ms,
        tape_waiting=waiting,
        unknown=unknown,
    ), why


@pytest.mark.kafka
def test_freshness_is_read_from_the_topics(kafka_bootstrap: str) -> None:
    """Partition 0 is behind, 1 has no state, 2 has had no tick, 3 is empty."""
    settings = fresh_topics(kafka_bootstrap)
    prefix = settings.topics.prefix
    shop = Shop(settings)
    shop.send("orders", [order(1, sku="A", event_time="2026-01-01T10:02:30.000Z")])
    shop.raw("orders", "A", b"no event")  # will be a dead letter
    shop.flush()
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for partition in (0, 0, 1, 2):
        producer.produce(f"{prefix}tape", b"{}", partition=partition)
    ten = 1767261600000  # 2026-01-01T10:00:00Z
    for partition, manifest in ((0, {"position": 0, "clock_ms": ten}), (2, {"position": 0})):
        value = orjson.dumps(manifest | {"engine": "x"})
        producer.produce(f"{prefix}state", value, key=b"manifest", partition=partition)
    assert producer.flush(10) == 0
    group = f"{prefix}pricemaker"
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(f"{prefix}orders", 0, 0)], asynchronous=False)
    consumer.close()

    looker = Looker(settings, lambda: own_groups(settings), (group,))
    freshness = looker.look().freshness
    looker.close()
    newest = ten + 150_000

    def expected(partition: int, **fields: object) -> Freshness:
        nothing = dict.fromkeys(("event_time_applied_ms", "behind_ms", "unknown"))
        return Freshness(partition=partition, **nothing | {"event_time_newest_ms": newest} | fields)

    assert freshness == [
        expected(0, event_time_applied_ms=ten, behind_ms=150_000, tape_waiting=1),
        expected(1, tape_waiting=1, unknown=NO_STATE),
        expected(2, tape_waiting=0, unknown=NO_TICK),
        expected(3, tape_waiting=0, unknown=NO_STATE),
    ]
