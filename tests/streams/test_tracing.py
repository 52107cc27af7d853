"""Traces from event to price: contexts on headers, spans in order, and nothing when it is off."""

import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams import tracing as tracing_module
from streams.edge.projector import Projector
from streams.settings import Settings
from streams.tracing import SPANS_MAX, TracedBatch, Tracing, end_spans, tracing_of
from streams.worker.worker import WorkerThread
from tests.streams.counting_engine import CountingFactory, Output
from tests.streams.spine import ROOT, Shop, fresh_topics, listing, order, read_topic, wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = [("other", b"x"), ("traceparent", f"00-{TRACE}-{SPAN}-01".encode())]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def hex_of(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    assert span.context is not None
    assert span.parent is not None
    return (
        f"{span.context.trace_id:032x}",
        f"{span.context.span_id:016x}",
        f"{span.parent.span_id:016x}",
    )


def test_only_records_with_a_context_have_a_span(tracing, exporter) -> None:
    records = [
        ("traced", PARENT),
        ("no header", []),
        ("no context", [("traceparent", b"\xff garbage")]),
        ("null", [("traceparent", None)]),
        ("none at all", [("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")]),
    ]
    spans = tracing.begin("intake", records, topic="orders")
    assert list(spans) == ["traced"]
    name, value = tracing.header(spans["traced"])
    end_spans(spans)
    (span,) = exporter.get_finished_spans()
    trace, own, parent = hex_of(span)
    assert (span.name, dict(span.attributes), trace, parent) == (
        "intake",
        {"topic": "orders"},
        TRACE,
        SPAN,
    )
    assert (name, value) == ("traceparent", f"00-{TRACE}-{own}-01".encode())


def test_traces_of_one_batch_are_bounded(tracing) -> None:
    assert len(tracing.begin("x", ((n, PARENT) for n in range(SPANS_MAX + 5)))) == SPANS_MAX


def test_decisions_carry_the_context_of_their_record(tracing) -> None:
    spans = tracing.begin("price", [(7, PARENT)])
    outputs = [
        Output(topic, b"A", orjson.dumps({"tape": {"offset": offset}}), (("h", b"1"),))
        for topic, offset in (("prices", 7), ("prices", 8), ("prices-latest", 7), ("alerts", 7))
    ]  # fmt: skip
    batch = SimpleNamespace(outputs=outputs, state=[(b"k", b"v")], position=8)
    assert tracing.mark(batch, {}) is batch
    marked = tracing.mark(batch, spans)
    assert isinstance(marked, TracedBatch)
    assert (marked.state, marked.position) == (batch.state, 8)
    same = [(out.topic, out.key, out.value) for out in outputs]
    assert [(out.topic, out.key, out.value) for out in marked.outputs] == same
    header = tracing.header(spans[7])
    assert [list(out.headers) for out in marked.outputs] == [
        [("h", b"1"), header],
        [("h", b"1")],
        [("h", b"1"), header],
        [("h", b"1")],
    ]


def test_it_is_off_by_default_and_then_nothing_is_imported() -> None:
    program = (
        "import sys, streams.tracing as t, streams.settings as s\n"
        "with t.tracing_of(s.Settings(), 'worker') as found: assert found is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_extra_it_says_what_to_install(monkeypatch) -> None:
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(tracing_module.ConfigError) as caught,
        tracing_of(Settings(tracing={"exporter": "otlp"}), "worker"),
    ):
        pass
    assert (caught.value.code, caught.value.field) == ("tracing_missing", "tracing.exporter")
    assert "pricemaker[tracing]" in str(caught.value)


@pytest.mark.kafka
def test_a_trace_goes_from_the_source_to_the_decision(
    kafka_bootstrap: str, tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    settings = fresh_topics(kafka_bootstrap)
    shop = Shop(settings)
    shop.send("products", [listing("A")])
    shop.raw("orders", "A", orjson.dumps(order(1, "A")), headers=PARENT)
    shop.raw("orders", "A", orjson.dumps(order(2, "A")))
    shop.flush()
    with WorkerThread(settings, CountingFactory(), tracing=tracing) as worker:
        assert worker.progress.wait_idle(60)
    intake, price = exporter.get_finished_spans()
    assert (intake.name, price.name) == ("intake", "price")
    assert hex_of(intake)[::2] == (TRACE, SPAN)
    assert hex_of(price)[::2] == (TRACE, hex_of(intake)[1])
    assert intake.end_time <= price.end_time
    traced = {
        topic: [
            dict(message.headers() or ())["traceparent"].decode()
            for message in read_topic(settings, topic)
            if "traceparent" in dict(message.headers() or ())
        ]
        for topic in ("tape", "prices")
    }
    assert traced == {
        "tape": [f"00-{TRACE}-{hex_of(intake)[1]}-01"],
        "prices": [f"00-{TRACE}-{hex_of(price)[1]}-01"],
    }


@pytest.mark.kafka
@pytest.mark.redis
def test_the_projector_ends_the_trace(
    kafka_bootstrap: str, redis_url: str, tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    settings = fresh_topics(kafka_bootstrap).model_copy(
        update={"redis": Settings(redis={"url": redis_url}).redis}
    )
    prefix = settings.topics.prefix
    settings = settings.model_copy(
        update={"redis": settings.redis.model_copy(update={"prefix": prefix})}
    )
    price: dict[str, Any] = {
        "sku": "A", "version": 1, "price_id": "p", "price_minor": 100, "previous_minor": None,
        "currency": "EUR", "status": "published", "effective_from": None, "valid_until": None,
        "decided_at": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    projector = Projector(settings, tracing=tracing)
    thread = threading.Thread(target=projector.run)
    thread.start()
    # what is read while the feed is made is not traced: this comes after
    wait_until(lambda: projector.ready() is None, "the projector to be ready")
    producer = Producer({"bootstrap.servers": kafka_bootstrap})

    def is_traced() -> bool:
        price["version"] += 1
        producer.produce(f"{prefix}prices-latest", orjson.dumps(price), key="A", headers=PARENT)
        assert producer.flush(10) == 0
        return bool(exporter.get_finished_spans())

    wait_until(is_traced, "a span")
    projector.stop()
    thread.join()
    span, *_ = exporter.get_finished_spans()
    assert (span.name, hex_of(span)[::2]) == ("project", (TRACE, SPAN))
    projector.rebuild()
