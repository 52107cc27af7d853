"""The breakers and the kill switch as the state topic has them, over all partitions."""

from collections.abc import Iterable
from typing import Any

import msgspec

from schemas import topics
from schemas.errors import InputError
from schemas.events import rfc3339
from schemas.state import BreakerState, CatalogueEntry, Manifest, SkuState
from streams.kafka.kafka_settings import topic_name
from streams.kafka.reader import opened, read_to_end, require_partitions

READ_DEADLINE_S = 600.0
KINDS = ("sku/", "breaker/", "catalogue/", "manifest")


class BreakerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One breaker that is not closed; ``partition`` is null where it is a product's or family's."""

    scope: str
    name: str | None
    partition: int | None
    state: str
    since: str
    until: str | None
    reasons: tuple[str, ...]
    openings: int


class SwitchLine(msgspec.Struct, frozen=True, kw_only=True):
    """The kill switch as one tape partition has read it."""

    partition: int
    on: bool
    by: str | None
    expires: str | None


class BreakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is not closed, products on sale, and the kill switch by partition."""

    breakers: tuple[BreakerLine, ...]
    products: int
    kill_switch: tuple[SwitchLine, ...]


def read_status(settings: Any) -> BreakerStatus:
    """Read all partitions of the state topic.

    Raises
    ------
    InputError : no worker has written a state yet
    ServiceError : the broker does not answer, or the topic is missing
    """
    topic = topic_name(settings, topics.STATE.name)
    partitions: list[dict[str, bytes]] = []
    with opened(settings, "breaker") as consumer:
        for number in range(require_partitions(consumer, topic)):
            latest: dict[str, bytes] = {}
            for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
                key, value = (message.key() or b"").decode(), message.value()
                if key.startswith(KINDS):
                    latest[key] = value
            partitions.append({key: value for key, value in latest.items() if value is not None})
    if not any(partitions):
        raise InputError(
            "no_state", "no worker has written its state yet.", fix="Run: pricemaker worker"
        )
    return status_of(partitions)


def status_of(partitions: Iterable[dict[str, bytes]]) -> BreakerStatus:
    """The same from state records, one mapping a partition; the widest scopes first."""
    found: list[BreakerLine] = []
    switches: list[SwitchLine] = []
    products = 0
    for number, records in enumerate(partitions):
        retired = set[str]()
        for key in sorted(records):
            kind, _, rest = key.partition("/")
            if kind == "catalogue":
                entry = msgspec.json.decode(records[key], type=CatalogueEntry)
                products += not entry.retired
                if entry.retired:
                    retired.add(rest)
            elif kind == "breaker":
                scope, _, name = rest.partition("/")
                state = msgspec.json.decode(records[key], type=BreakerState)
                found += _line(scope, name or None, None if name else number, state)
            elif kind == "sku" and rest not in retired:
                product = msgspec.msgpack.decode(records[key], type=SkuState)
                found += _line("sku", rest, None, product.breaker)
            elif kind == "manifest":
                switches.append(_switch(number, records[key]))
    order = {"catalogue": 0, "family": 1, "sku": 2}
    found.sort(key=lambda one: (order[one.scope], one.name or "", one.partition or 0))
    return BreakerStatus(breakers=tuple(found), products=products, kill_switch=tuple(switches))


def _line(
    scope: str, name: str | None, partition: int | None, state: BreakerState
) -> list[BreakerLine]:
    if state.state == "CLOSED":
        return []
    until = None if state.until_ms is None else rfc3339(state.until_ms)
    return [
        BreakerLine(
            scope=scope, name=name, partition=partition, state=state.state,
            since=rfc3339(state.since_ms), until=until, reasons=state.reasons,
            openings=state.openings,
        )
    ]  # fmt: skip


def _switch(number: int, value: bytes) -> SwitchLine:
    manifest = msgspec.json.decode(value, type=Manifest)
    expires_ms = manifest.kill_switch_expires_ms
    return SwitchLine(
        partition=number,
        on=manifest.kill_switch is not None,
        by=manifest.kill_switch,
        expires=None if expires_ms is None else rfc3339(expires_ms),
    )
