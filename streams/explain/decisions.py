"""Decisions and alerts as they were published: on Kafka, or in a file of ``replay --out``."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas import topics
from schemas.errors import InputError, ServiceError
from schemas.events import DAY_MS, time_ms
from schemas.outputs import Alert, PriceDecided
from streams.kafka.kafka_settings import topic_name
from streams.kafka.reader import opened, read_to_end, require_partitions

READ_DEADLINE_S = 600.0
DRIFT_DAYS = 7  # how long drift that was told is news
WAITS = "approval: "
_REJECTED = "approval: rejected before"


class Standing(NamedTuple):
    """Each product's last decision, by SKU, why it can't be priced, and what drift was told."""

    decisions: list[PriceDecided]
    blocked: dict[str, str]
    drifted: dict[str, str]


class _Key(msgspec.Struct):
    sku: str


def decode(line: bytes, kind: type[Any], where: str) -> Any:
    """One decision, or a part of it.

    Raises
    ------
    InputError : the line is no decision
    """
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise InputError(
            "not_a_decision",
            f"the line is no price decision: {error}.",
            where=where,
            fix="Give a file written by: pricemaker replay SOURCE --out FILE",
        ) from None


def lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines of a file of decisions, each with where it stands.

    Raises
    ------
    ServiceError : the file can't be read
    """
    try:
        with path.open("rb") as found:
            for number, line in enumerate(found, start=1):
                yield f"{path}:{number}", line
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error


def standing_in_file(path: Path) -> Standing:
    """The last decisions of a file, which says nothing of what can't be priced.

    Raises
    ------
    InputError : the file has something else
    ServiceError : the file can't be read
    """
    return Standing(_last(lines(path)), {}, {})


def standing_on_kafka(settings: Any) -> Standing:
    """The last decisions and what alerts say, read to the present ends of their topics.

    Raises
    ------
    ServiceError : the broker does not answer, or a topic is missing
    """
    with opened(settings, "decisions") as consumer:
        decisions = _last(_records(consumer, topic_name(settings, topics.PRICES.name)))
        alerts = [
            decode(value, Alert, where)
            for where, value in _records(consumer, topic_name(settings, topics.ALERTS.name))
        ]
    return Standing(decisions, blocked_reasons(alerts), _drifted(alerts))


def _records(consumer: Any, topic: str) -> Iterator[tuple[str, bytes]]:
    for number in range(require_partitions(consumer, topic)):
        for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
            if message.value() is not None:
                yield f"{topic}[{number}]@{message.offset()}", message.value()


def _last(records: Iterable[tuple[str, bytes]]) -> list[PriceDecided]:
    """The last decision of each product, by SKU; only those are decoded whole."""
    last: dict[str, tuple[str, bytes]] = {}
    for where, value in records:
        last[decode(value, _Key, where).sku] = where, value
    return [decode(last[sku][1], PriceDecided, last[sku][0]) for sku in sorted(last)]


def blocked_reasons(alerts: Iterable[Alert]) -> dict[str, str]:
    """Why products can't be priced, by SKU, from alerts in their order."""
    found: dict[str, str] = {}
    for alert in alerts:
        if alert.sku is not None and alert.kind == "product_blocked":
            found[alert.sku] = alert.message.removeprefix(f"{alert.sku} is not priced: ")
        elif alert.sku is not None and alert.kind == "product_unblocked":
            found.pop(alert.sku, None)
    return found


def waits(decision: PriceDecided) -> bool:
    """Whether a decision is a proposal."""
    return decision.status == "held" and any(
        reason.startswith(WAITS) and not reason.startswith(_REJECTED) for reason in decision.reasons
    )


def _drifted(alerts: list[Alert]) -> dict[str, str]:
    """Drift told within a week of the newest alert, by SKU."""
    newest_ms = max(map(_at_ms, alerts), default=0)
    return {
        alert.sku: alert.message
        for alert in alerts
        if alert.kind == "drift"
        and alert.sku is not None
        and _at_ms(alert) > newest_ms - DRIFT_DAYS * DAY_MS
    }


def _at_ms(alert: Alert) -> int:
    return time_ms(datetime.fromisoformat(alert.at))
