"""The log of deliveries: read it, send again, send a sample."""

from typing import Final

from msgspec import json
from msgspec.structs import replace

from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.webhooks import owner_of, to_delivery
from shared.clock import now_ms
from shared.errors import BadRequestError, ConflictError, InvalidCursorError, InvalidFieldError, NotFoundError
from shared.ids import new_ulid, parse_id
from shared.lists import cursor_page
from shared.webhooks.bodies import render_delivery, render_event, sample_data
from shared.webhooks.events import UnknownEventTypeError, check_event_types
from shared.webhooks.queries import (
    DELIVERY_PREFIX,
    ENDPOINT_PREFIX,
    get_delivery,
    get_endpoint,
    list_attempts,
    list_deliveries,
    of_window,
    restart_deliveries,
)
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.schemas import (
    ListWebhookDeliveriesQuery,
    RecoverRequest,
    WebhookDelivery,
    WebhookDeliveryPage,
    WebhookRecovery,
    WebhookTestRequest,
    WebhookTestResult,
)
from shared.webhooks.sending import Outgoing, Try, send
from shared.webhooks.signature import unseal, unseal_headers
from shared.webhooks.tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow

routes = Routes("Webhooks")
_LONGEST_WINDOW_S: Final = 14 * 86_400


class WebhookTestFailedError(BadRequestError):
    """The receiver of a sample did not answer."""

    code = "webhook_test_failed"


class WebhookEndpointDisabledError(ConflictError):
    """Nothing is sent to a disabled endpoint."""

    code = "webhook_endpoint_disabled"

    def __init__(self) -> None:
        super().__init__("The webhook endpoint is disabled; enable it first.", headers={"x-should-retry": "false"})


class WebhookDeliveryInFlightError(ConflictError):
    """A try is under way."""

    code = "webhook_delivery_in_flight"

    def __init__(self) -> None:
        super().__init__("The delivery is being tried at this moment.", headers={"retry-after": "15"})


@routes.get("/v1/webhook_endpoints/{webhook_endpoint_id}/deliveries", raises=(NotFoundError, InvalidCursorError))
async def list_webhook_deliveries(
    call: Call, webhook_endpoint_id: str, query: ListWebhookDeliveriesQuery
) -> WebhookDeliveryPage:
    """List what was sent, is being sent or waits, newest first."""
    after = None
    if query.after is not None and (after := parse_id(query.after, DELIVERY_PREFIX)) is None:
        raise InvalidCursorError(f"`{query.after}` is not the id of a webhook delivery.", param="after")
    async with call.state.database.read() as session:
        endpoint = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
        rows, has_more = await list_deliveries(session, endpoint, query, after)
        attempts = await list_attempts(session, [row.id for row in rows])
    data = [to_delivery(row, endpoint, attempts.get(row.id, [])) for row in rows]
    return cursor_page(data, has_more=has_more)


@routes.get("/v1/webhook_deliveries/{webhook_delivery_id}", raises=(NotFoundError,))
async def get_webhook_delivery(call: Call, webhook_delivery_id: str) -> WebhookDelivery:
    """Get a delivery with its tries and its body; a result in it is shown to its owner only."""
    async with call.state.database.read() as session:
        row, endpoint = await get_delivery(session, owner_of(call), webhook_delivery_id)
        attempts = await list_attempts(session, [row.id])
    has_result = endpoint.include_result and endpoint.user_id == call.caller.user_id
    body = await render_delivery(call.state.database, row, include_result=has_result)
    delivery = to_delivery(row, endpoint, attempts.get(row.id, []))
    return replace(delivery, request_body=body.decode())


@routes.post(
    "/v1/webhook_deliveries/{webhook_delivery_id}/redeliver",
    status=202,
    raises=(NotFoundError, WebhookEndpointDisabledError, WebhookDeliveryInFlightError),
)
async def redeliver_webhook(call: Call, webhook_delivery_id: str) -> WebhookDelivery:
    """Send it again now, with the same event id; if that fails, the schedule starts anew."""
    async with call.state.database.transaction() as session:
        row, endpoint = await get_delivery(session, owner_of(call), webhook_delivery_id)
        if endpoint.status != "enabled":
            raise WebhookEndpointDisabledError
        restarted = await restart_deliveries(session, "manual", now_ms(), WebhookDeliveryRow.id == row.id)
        if not restarted:
            raise WebhookDeliveryInFlightError
        await session.refresh(row)
        attempts = await list_attempts(session, [row.id])
        delivery = await keep_answer(session, call, to_delivery(row, endpoint, attempts.get(row.id, [])))
    enqueue_deliveries(call.state.deliveries, restarted)
    return delivery


@routes.post(
    "/v1/webhook_endpoints/{webhook_endpoint_id}/recover",
    status=202,
    raises=(NotFoundError, WebhookEndpointDisabledError),
)
async def recover_webhook_deliveries(call: Call, webhook_endpoint_id: str, body: RecoverRequest) -> WebhookRecovery:
    """Send everything again that did not arrive in this window, at most 14 days."""
    now = now_ms()
    until_ms = now if body.until is None else body.until * 1000 + 999
    if until_ms // 1000 - body.since > _LONGEST_WINDOW_S:
        raise InvalidFieldError(["body", "since"], "Expected a window of at most 14 days")
    async with call.state.database.transaction() as session:
        endpoint = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
        if endpoint.status != "enabled":
            raise WebhookEndpointDisabledError
        window = of_window(endpoint.id, body.statuses, body.since * 1000, until_ms)
        restarted = await restart_deliveries(session, "recover", now, *window)
        recovery = WebhookRecovery(webhook_endpoint_id=ENDPOINT_PREFIX + endpoint.id, matched=len(restarted))
        await keep_answer(session, call, recovery)
    enqueue_deliveries(call.state.deliveries, restarted)
    return recovery


@routes.post(
    "/v1/webhook_endpoints/{webhook_endpoint_id}/test",
    raises=(NotFoundError, UnknownEventTypeError, WebhookTestFailedError),
)
async def test_webhook_endpoint(call: Call, webhook_endpoint_id: str, body: WebhookTestRequest) -> WebhookTestResult:
    """Send a signed sample now, once, and tell what the receiver said."""
    check_event_types([body.event_type], "event_type")
    async with call.state.database.read() as session:
        endpoint = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
    row = WebhookDeliveryRow(
        id=new_ulid(), endpoint_id=endpoint.id, user_id=endpoint.user_id, event_id=new_ulid(),
        event_type=body.event_type, object_id="", data=json.encode(sample_data(body.event_type)).decode(),
        is_test=True, created_ms=now_ms(), status="delivered", origin="test", attempts=1, step=1,
    )  # fmt: skip
    ended = await _send_sample(call, endpoint, row)
    row.status = "delivered" if ended.is_delivered else "aborted"
    row.delivered_ms = now_ms() if ended.is_delivered else None
    async with call.state.database.transaction() as session:
        session.add(row)
        session.add(_attempt_row(row, ended))
    if ended.status_code is None:
        raise WebhookTestFailedError(f"The sample could not be sent: {ended.error}.")
    return WebhookTestResult(
        webhook_endpoint_id=ENDPOINT_PREFIX + endpoint.id, event_type=body.event_type, status_code=ended.status_code,
        success=True,
    )  # fmt: skip


async def _send_sample(call: Call, endpoint: WebhookEndpointRow, row: WebhookDeliveryRow) -> Try:
    box = call.state.box
    headers = unseal_headers(box, endpoint.headers_sealed)
    outgoing = Outgoing(
        url=endpoint.url, event_id=f"evt_{row.event_id}", headers=headers,
        body=render_event(row.event_id, row.event_type, row.created_ms, json.decode(row.data), is_test=True),
        secrets=unseal(box, endpoint.secrets_sealed),
    )  # fmt: skip
    return await send(call.state.webhooks, outgoing)


def _attempt_row(row: WebhookDeliveryRow, ended: Try) -> WebhookAttemptRow:
    return WebhookAttemptRow(
        delivery_id=row.id, number=1, origin="test", started_ms=ended.started_ms, latency_ms=ended.latency_ms,
        status_code=ended.status_code, error_class=ended.error_class, error=ended.error,
        remote_address=ended.remote_address, response_snippet=ended.snippet,
    )  # fmt: skip
