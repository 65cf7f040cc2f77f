"""Spans of tries of webhooks; used only if there is a tracer."""

from typing import TYPE_CHECKING

from aiohttp import ClientSession
from msgspec.structs import replace
from yarl import URL

from shared.tracing.headers import headers_of
from shared.webhooks.sending import Outgoing, Try, send
from shared.webhooks.tables import WebhookDeliveryRow

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer


async def send_traced(tracer: "Tracer", http: ClientSession, row: WebhookDeliveryRow, outgoing: Outgoing) -> Try:
    """Send it in a span of the trace of its object, and tell the receiver of the span."""
    url = URL(outgoing.url)
    attributes: dict[str, str | int] = {
        "http.request.method": "POST", "server.address": url.host or "", "server.port": url.port or 0,
        "sluice.webhook.event": row.event_type, "sluice.webhook.id": outgoing.event_id,
        "sluice.webhook.endpoint": row.endpoint_id, "http.request.resend_count": max(row.attempts - 1, 0),
    }  # fmt: skip
    parent = headers_of(row.traceparent, row.tracestate)
    with tracer.span("POST webhook", "client", attributes, parent=parent) as span:
        ended = await send(http, replace(outgoing, headers=outgoing.headers | tracer.carried()))
        if ended.status_code is not None:
            span.set_attribute("http.response.status_code", ended.status_code)
        if ended.error_class is not None:
            tracer.fail(span, str(ended.status_code) if ended.error_class == "http_error" else ended.error_class)
    return ended
