"""Explain a product's price: find its decision, or why it has none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer
from rich.console import RenderableType

from schemas import topics
from schemas.errors import InputError
from schemas.outputs import Alert, DiscountOffered, PriceDecided
from streams.explain.decisions import READ_DEADLINE_S, blocked_reasons, decode, lines
from streams.explain.explanation_text import explanation_group
from streams.kafka.kafka_settings import topic_name
from streams.kafka.reader import opened, read_to_end, require_partitions
from streams.worker.routes import tape_partition


class Explanation(msgspec.Struct, kw_only=True):
    """A product's decision, if it has one, and the last word on whether it can be priced."""

    sku: str
    decision: PriceDecided | None
    blocked: str | None
    breaker: str | None
    discounts: tuple[DiscountOffered, ...] = ()


class _Keyed(msgspec.Struct):
    sku: str | None
    version: int = 0


def explain_from_kafka(settings: Any, sku: str, version: int | None) -> Explanation:
    """Look a product up on the broker.

    Raises
    ------
    InputError : nothing is known of the product, or not of that version
    ServiceError : the broker cannot be reached, or topics are missing
    """
    found: PriceDecided | None = None
    alerts: list[Alert] = []
    with opened(settings, "explain") as consumer:
        for value in _keyed(consumer, settings, topics.PRICES.name, sku):
            decision = msgspec.json.decode(value, type=PriceDecided)
            if version is None or decision.version == version:
                found = decision
        for value in _keyed(consumer, settings, topics.ALERTS.name, sku):
            alerts.append(msgspec.json.decode(value, type=Alert))
        offers = {
            offer.segment: offer
            for value in _keyed(consumer, settings, topics.DISCOUNTS.name, sku)
            for offer in (msgspec.json.decode(value, type=DiscountOffered),)
        }
    explained = _explanation(sku, version, found, alerts)
    explained.discounts = tuple(offers[segment] for segment in sorted(offers))
    return explained


def explain_from_file(path: Path, sku: str, version: int | None) -> Explanation:
    """Look a product up among the decisions that ``pricemaker replay --out`` wrote.

    Raises
    ------
    InputError : nothing is known of the product, or the file has something else
    ServiceError : the file can't be read
    """
    found: PriceDecided | None = None
    for where, line in lines(path):
        if sku.encode() in line and decode(line, _Keyed, where).sku == sku:
            decision = decode(line, PriceDecided, where)
            if version is None or decision.version == version:
                found = decision
    return _explanation(sku, version, found, [])


def _keyed(consumer: Consumer, settings: Any, name: str, sku: str) -> Iterator[bytes]:
    topic = topic_name(settings, name)
    number = tape_partition(sku, require_partitions(consumer, topic))
    for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
        if message.key() == sku.encode():
            yield message.value()


def _explanation(
    sku: str, version: int | None, found: PriceDecided | None, alerts: list[Alert]
) -> Explanation:
    blocked = blocked_reasons(alerts).get(sku)
    changes = [alert for alert in alerts if alert.kind == "breaker_changed"]
    breaker = f"{changes[-1].at}: {changes[-1].message}" if changes else None
    if found is None and (blocked is None or version is not None):
        wanted = "" if version is None else f" of version {version}"
        raise InputError(
            "unknown_sku",
            f"no decision{wanted} about {sku!r} was found.",
            field="sku",
            value=sku,
            expected="a product that was listed and decided on",
            fix="See what there is: pricemaker prices --latest --no-follow",
        )
    return Explanation(sku=sku, decision=found, blocked=blocked, breaker=breaker)


def explanation_text(found: Explanation) -> RenderableType:
    """The explanation for people."""
    return explanation_group(found.decision, found.blocked, found.breaker, found.discounts)
