"""Spans of requests and of the publishing of their jobs; used only if there is a tracer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from api.call import CALL
from shared.batches.schemas import BATCH_PREFIX
from shared.jobs.schemas import public_id
from shared.jobs.tables import JobRow
from shared.queue.lanes import lane_of
from shared.tracing.headers import trace_id_of

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
_UNTRACED: Final = frozenset({"/health", "/metrics"})
"""Asked all the time, by machines."""
_HEADERS: Final = ("traceparent", "tracestate")
_FAILED: Final = 500


def trace_requests(tracer: "Tracer") -> Middleware:
    """Return the middleware that makes a span of every request, which continues the trace of its caller."""

    @web.middleware
    async def trace(request: web.Request, handler: Next) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = None if resource is None else resource.canonical
        if route in _UNTRACED:
            return await handler(request)
        method = request.method if request.method in hdrs.METH_ALL else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": request.scheme, "url.path": request.path}
        if route is not None:
            attributes["http.route"] = route
        name = method.replace("_OTHER", "HTTP")
        with tracer.span(
            name if route is None else f"{name} {route}", "server", attributes, parent=_given(request)
        ) as span:
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            if (call := request.get(CALL)) is not None:
                span.set_attribute("sluice.request.id", call.request_id)
            if response.status >= _FAILED:
                tracer.fail(span, str(response.status))
            return response

    return trace


def _given(request: web.Request) -> Mapping[str, str]:
    found = {name: ",".join(request.headers.getall(name, ())) for name in _HEADERS}
    return {name: value for name, value in found.items() if value}


def sending(kind: str) -> tuple[str, dict[str, str]]:
    """Return name and attributes of the span in which a job of this kind is put into its lane."""
    lane = lane_of(kind)
    return f"send {lane}", {
        "messaging.system": "sluice", "messaging.operation.name": "send", "messaging.operation.type": "send",
        "messaging.destination.name": lane, "sluice.job.kind": kind,
    }  # fmt: skip


def send_item(tracer: "Tracer", row: JobRow) -> None:
    """Begin the trace of an item of a batch, linked to the one of the request that made the batch."""
    name, attributes = sending(row.kind)
    attributes["messaging.message.id"] = public_id(row.id)
    if row.batch_id is not None:
        attributes["sluice.batch.id"] = BATCH_PREFIX + row.batch_id
    origin = {"traceparent": row.traceparent or "", "tracestate": row.tracestate or ""}
    span = tracer.begin(name, "producer", attributes, parent={}, links=[origin])
    headers = tracer.carried(span)
    row.traceparent, row.tracestate = headers.get("traceparent"), headers.get("tracestate")
    row.trace_id = trace_id_of(row.traceparent)
    span.end()
