"""A collector of OpenTelemetry over real HTTP: it keeps the spans it gets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.waiting import eventually


class Span(Struct, frozen=True, kw_only=True):
    """One span as it came in; ids as hexadecimal digits, `parent` empty at the root of a trace."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    attributes: dict[str, Any]
    links: list[str]
    """Trace ids."""
    failed: bool
    raw: str
    """Everything it says."""


class Collector:
    """Answers every export with 200."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        exported = ExportTraceServiceRequest.FromString(await request.read())
        for resource in exported.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            self.spans += [_span(service, span) for scope in resource.scope_spans for span in scope.spans]
        return web.Response()

    def of_trace(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace == trace]

    async def until(self, *names: str, trace: str | None = None) -> list[Span]:
        """Wait until there are spans with all these names; returns the spans of the trace, or all."""

        def found() -> list[Span]:
            spans = self.spans if trace is None else self.of_trace(trace)
            missing = list(names)
            for span in spans:
                if span.name in missing:
                    missing.remove(span.name)
            return [] if missing else spans

        spans: list[Span] = await eventually(found, within_s=30)
        return spans


@asynccontextmanager
async def serve_collector() -> AsyncIterator[Collector]:
    """Yield a running collector."""
    collector = Collector()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", collector.handle)
    server = TestServer(app)
    await server.start_server()
    collector.url = str(server.make_url("/v1/traces"))
    yield collector
    await server.close()


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        name=span.name,
        kind=type(span).SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        attributes=_values(span.attributes),
        links=[link.trace_id.hex() for link in span.links],
        failed=span.status.code == 2,
        raw=str(span),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return [_value(one) for one in found.values] if kind == "array_value" else found
