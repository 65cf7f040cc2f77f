"""Makes spans and sends them to a collector (OTLP over HTTP) from a thread, so that a slow or lost one harms nobody.

What cannot be sent is dropped: the queue of a process is bounded, and one export takes at most a few seconds.
Contexts travel as the headers of W3C Trace Context, `traceparent` and `tracestate`.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Final, Literal

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, get_current_span, set_span_in_context, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from shared.settings import Settings
from shared.version import VERSION

Kind = Literal["server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool | Sequence[str]]
_KINDS: Final[dict[Kind, SpanKind]] = {
    "server": SpanKind.SERVER, "client": SpanKind.CLIENT, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER,
}  # fmt: skip
_W3C: Final = TraceContextTextMapPropagator()
_MOST_WAITING: Final = 8192
_MOST_AT_ONCE: Final = 512
_SEND_MS: Final = 1000
_EXPORT_S: Final = 3.0
_CLOSE_S: Final = 3.0
_LOOK_S: Final = 0.01


class Tracer:
    """The spans of one process.  A span without a parent is kept with the probability of the settings."""

    def __init__(self, settings: Settings, process: str) -> None:
        exporter = OTLPSpanExporter(
            endpoint=settings.trace_url, headers=_headers(settings), timeout=_EXPORT_S, compression=Compression.Gzip
        )
        self._processor = BatchSpanProcessor(
            exporter, max_queue_size=_MOST_WAITING, schedule_delay_millis=_SEND_MS, max_export_batch_size=_MOST_AT_ONCE
        )
        resource = {"service.namespace": "sluice", "service.name": f"sluice-{process}", "service.version": VERSION}
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
            resource=Resource.create(resource),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("sluice", VERSION)

    async def close(self) -> None:
        """Send what is left, but do not wait long for a collector that does not take it."""
        sending = Thread(target=self._processor.shutdown, daemon=True)
        sending.start()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CLOSE_S
        while sending.is_alive() and loop.time() < deadline:  # noqa: ASYNC110  # a thread sets no event of the loop
            await asyncio.sleep(_LOOK_S)

    def begin(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        parent: Mapping[str, str] | None = None,
        links: Sequence[Mapping[str, str]] = (),
    ) -> Span:
        """Return a span that the caller ends.

        Args:
            name: without anything that differs from request to request.
            kind: see the specification of OpenTelemetry.
            attributes: nothing of what people wrote.
            parent: headers; empty ones begin a new trace, None continues the current span.
            links: headers of other traces that it has to do with.

        """
        known = [get_current_span(_context(one)).get_span_context() for one in links]
        return self._tracer.start_span(
            name,
            context=None if parent is None else _context(parent),
            kind=_KINDS[kind],
            attributes=attributes,
            links=[Link(one) for one in known if one.is_valid],
        )

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        parent: Mapping[str, str] | None = None,
        links: Sequence[Mapping[str, str]] = (),
    ) -> Iterator[Span]:
        """Make a span the current one, see `begin`; an exception fails it by its name, its text is not told."""
        span = self.begin(name, kind, attributes, parent=parent, links=links)
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except BaseException as error:
                self.fail(span, str(getattr(error, "code", None) or type(error).__name__))
                raise

    def carried(self, span: Span | None = None) -> dict[str, str]:
        """Return the headers that continue this span, or the current one; none outside of a span."""
        headers: dict[str, str] = {}
        _W3C.inject(headers, None if span is None else set_span_in_context(span))
        return headers

    def current(self) -> Span:
        """Return the current span."""
        return get_current_span()

    def fail(self, span: Span, error_type: str) -> None:
        """Say that what the span is about went wrong, and how in one word."""
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR))


def _context(headers: Mapping[str, str]) -> Context:
    return _W3C.extract(headers, Context())


def _headers(settings: Settings) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in settings.trace_headers.split(",")]
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}
