"""A run without a broker: intake's rules in one loop, then the engine; no fault ever happens.

It makes evidence of a flawless run, into which a test can then cut, and tapes for engine tests.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas import tape
from schemas.codec import decode_event
from schemas.errors import EventError
from schemas.events import ProductListed
from schemas.tape import Source
from schemas.topics import SOURCES, TOPICS
from streams.worker.routes import tape_partition
from tests.crash.accounts import FAR_FUTURE_MS
from tests.crash.evidence import Evidence, Record, Sample
from tests.crash.feed import Item

PARTITIONS = 4


class Topics:
    """Topics in memory, written like Kafka's."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {topic.name: [] for topic in TOPICS}
        self._ends: dict[tuple[str, int], int] = defaultdict(int)

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> Record:
        """Append a record."""
        offset = self._ends[topic, partition]
        self._ends[topic, partition] = offset + 1
        record = Record(partition, offset, key, value, tuple(headers))
        self.records[topic].append(record)
        return record

    def ends(self) -> dict[tuple[str, int], int]:
        """The offset after the last record, of each partition that has one."""
        return dict(self._ends)


def by_key(key: bytes | None) -> int:
    """The partition of a key, as Kafka's clients choose it."""
    return 0 if key is None else tape_partition(key.decode("utf-8", "replace"), PARTITIONS)


def take_in(items: Iterable[Item], topics: Topics) -> None:
    """Put items on their source topics, and from there on the tape or among the dead letters."""
    routes: dict[str, int] = {}
    for item in items:
        partition = 0 if item.topic == "controls" else by_key(item.key)
        record = topics.append(item.topic, partition, item.key, item.value)
        source = Source(item.topic, partition, record.offset)
        try:
            accepted = decode_event(item.topic, item.key, item.value)
            event = accepted.event
            if event.event_time_ms > FAR_FUTURE_MS:
                raise EventError("future_event_time", "the event lies ahead")
            sku = getattr(event, "sku", None)
            if isinstance(event, ProductListed):
                routes.setdefault(event.sku, tape_partition(event.family or event.sku, PARTITIONS))
            if sku is not None and sku not in routes:
                raise EventError("unknown_product", "the product was never listed")
        except EventError as error:
            _letter(topics, item, source, error)
            continue
        everywhere = range(PARTITIONS)
        value = tape.wrap(source, accepted.value)
        for number in everywhere if sku is None else (routes[sku],):
            topics.append("tape", number, item.key if sku else None, value)


def _letter(topics: Topics, item: Item, source: Source, error: EventError) -> None:
    facts = {
        "dl_topic": source.topic,
        "dl_partition": str(source.partition),
        "dl_offset": str(source.offset),
        "dl_stage": "intake",
        "dl_error": error.code,
    }
    headers = [(name, text.encode()) for name, text in facts.items()]
    topics.append("dead-letter", by_key(item.key), item.key, item.value, headers)


def tape_of(items: Iterable[Item]) -> Mapping[int, list[tuple[int, bytes]]]:
    """The tape's records (offset, value) by partition."""
    topics = Topics()
    take_in(items, topics)
    found: dict[int, list[tuple[int, bytes]]] = {number: [] for number in range(PARTITIONS)}
    for record in topics.records["tape"]:
        found[record.partition].append((record.offset, record.value or b""))
    return found


def flawless(items: Iterable[Item], kernel: Kernel, batch: int) -> Evidence:
    """The evidence of a run in which nothing goes wrong."""
    topics = Topics()
    take_in(items, topics)
    for number in range(PARTITIONS):
        engine = PartitionEngine.new(number, kernel)
        records = [r for r in topics.records["tape"] if r.partition == number]
        for start in range(0, len(records), batch):
            part = [(r.offset, r.value or b"") for r in records[start : start + batch]]
            done = engine.apply(part)
            for output in done.outputs:
                topics.append(
                    output.topic, by_key(output.key), output.key, output.value, output.headers
                )
            for key, value in done.state:
                topics.append("state", number, key, value)
    ends = topics.ends()
    read = {topic.name for topic in SOURCES} | {"tape"}
    committed = {place: end for place, end in ends.items() if place[0] in read}
    return Evidence(dict(topics.records), [Sample(committed, ends)])
