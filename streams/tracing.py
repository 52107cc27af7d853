"""Traces from event to price by OpenTelemetry: for records that carry a W3C ``traceparent``.

A source that traces puts the header on its record. Intake makes a span of it and hands its own
context on in the header of the tape's record; the pricer makes one for the batch's work on that
record, and puts its context on the decisions that the record led to; who passes prices on makes the
last. Values are never touched, so the bytes of tape and prices stay a function of the tape.

Off (``tracing.exporter = "none"``) there is no `Tracing` at all: no import, no look at a header.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from schemas.errors import ConfigError
from schemas.topics import PRICES, PRICES_LATEST

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

HEADER = "traceparent"
NAME = "pricemaker"
SPANS_MAX = 1_000  # traced records of one batch, at most; the rest of it is not traced
PRICED = frozenset({PRICES.name, PRICES_LATEST.name})
Headers = Sequence[tuple[str, bytes | None]]
Key = TypeVar("Key", bound=Hashable)


class _Place(msgspec.Struct):
    offset: int


class _Decision(msgspec.Struct):
    tape: _Place


_decision = msgspec.json.Decoder(_Decision)


class _Output(msgspec.Struct, frozen=True, gc=False):
    topic: str
    key: bytes | None
    value: bytes
    headers: Headers


class TracedBatch(msgspec.Struct, frozen=True):
    """A batch whose decisions carry the context of the records that led to them."""

    outputs: Sequence[Any]
    state: Sequence[tuple[bytes, bytes | None]]
    position: int


class Tracing:
    """Spans of one process."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer(NAME)

    def begin(
        self, name: str, records: Iterable[tuple[Key, Headers]], **attributes: Any
    ) -> "dict[Key, Span]":
        """A span for each record that carries a context, by the record's key.

        Parameters
        ----------
        records : keys and headers; one with no header, or none that is a context, has no span
        attributes : of every span
        """
        spans: dict[Key, Span] = {}
        for key, headers in records:
            found = next((value for header, value in headers if header == HEADER), None)
            if found is None or len(spans) == SPANS_MAX:
                continue
            context = self._propagator.extract({HEADER: found.decode("ascii", "replace")})
            if self._trace.get_current_span(context).get_span_context().is_valid:
                spans[key] = self._tracer.start_span(name, context, attributes=attributes)
        return spans

    def header(self, span: "Span") -> tuple[str, bytes]:
        """The header that makes a span the parent of what comes next."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        return HEADER, carrier[HEADER].encode()

    def mark(self, batch: Any, spans: "Mapping[int, Span]") -> Any:
        """The batch, its decisions with the context of the span at their tape offset."""
        if not spans:
            return batch
        outputs = [self._marked(output, spans) for output in batch.outputs]
        return TracedBatch(outputs, batch.state, batch.position)

    def _marked(self, output: Any, spans: "Mapping[int, Span]") -> Any:
        if output.topic not in PRICED or output.value is None:
            return output
        span = spans.get(_decision.decode(output.value).tape.offset)
        if span is None:
            return output
        headers = (*output.headers, self.header(span))
        return _Output(output.topic, output.key, output.value, headers)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def end_spans(spans: "Mapping[Any, Span]") -> None:
    """End spans: their work is durable."""
    for span in spans.values():
        span.end()


@contextmanager
def tracing_of(settings: Any, process: str) -> Iterator[Tracing | None]:
    """Tracing as the settings say, sent until the block ends; None when it is off.

    Raises
    ------
    ConfigError : it is on, and the extra ``tracing`` is not installed
    """
    if settings.tracing.exporter == "none":
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            "tracing_missing",
            f"tracing is on, and {error.name} is not installed.",
            field="tracing.exporter",
            value=settings.tracing.exporter,
            expected="none, or the extra tracing",
            fix="Run: pip install 'pricemaker[tracing]'",
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"{NAME}-{process}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing = Tracing(provider)
    try:
        yield tracing
    finally:
        tracing.close()
