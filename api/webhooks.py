"""Webhook endpoints and deliveries as their owners see them, and what a request to make one has to meet."""

from typing import Final

from cryptography.exceptions import InvalidTag
from msgspec import json

from api.call import Call
from api.notice import Notice
from shared.clock import now_ms, to_seconds
from shared.errors import BadRequestError, InvalidFieldError
from shared.ids import new_ulid
from shared.jobs.schemas import JobWebhook, WebhookRequest
from shared.request_logs.redaction import redact_headers
from shared.secrets import SecretBox
from shared.webhooks.events import JOB_ENDS, check_event_types
from shared.webhooks.queries import DELIVERY_PREFIX, ENDPOINT_PREFIX, get_endpoint, shown_status
from shared.webhooks.schemas import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from shared.webhooks.signature import Secret, hint, is_secret, new_secret, seal, unseal_headers
from shared.webhooks.statements import EVERYBODY, NewWebhookEndpoint
from shared.webhooks.tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow
from shared.webhooks.urls import check_webhook_url

_OWN_HEADERS: Final = frozenset(
    {
        "host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "user-agent",
        "webhook-id", "webhook-timestamp", "webhook-signature", "traceparent", "expect", "upgrade", "te", "trailer",
        "keep-alive", "proxy-connection",
    }
)  # fmt: skip
"""Set by Sluice, or meant for the connection."""


def owner_of(call: Call) -> int | None:
    """Return whose endpoints the caller may see; None: everybody's."""
    return None if call.caller.is_admin else call.caller.user_id


async def read_notice(
    call: Call, webhook: WebhookRequest | None, endpoint_ids: list[str], events: tuple[str, ...] = JOB_ENDS
) -> Notice:
    """Return who is to be told; `events` are those of a webhook that names none.

    Raises:
        NotFoundError: an endpoint is absent or another user's.
        WebhookUrlNotAllowedError, UnknownEventTypeError, InvalidFieldError: the webhook cannot be made.

    """
    names = await _named(call, endpoint_ids)
    if webhook is None:
        return Notice(notify=names or None)
    check_event_types(webhook.events or [], "webhook.events")
    if webhook.secret is not None and not is_secret(webhook.secret):
        raise InvalidFieldError(["body", "webhook", "secret"], "Expected `whsec_` and 24 to 64 bytes as base64")
    url = await check_webhook_url(webhook.url, call.state.settings, "webhook.url")
    secret, now = webhook.secret or new_secret(), now_ms()
    endpoint = NewWebhookEndpoint(
        id=new_ulid(), user_id=call.caller.user_id, object_id=None, name="webhook of one request", description=None,
        url=url, event_types=json.encode(sorted(set(webhook.events or events))).decode(), kinds=None,
        headers_sealed=None, include_result=webhook.include_result,
        secrets_sealed=seal(call.state.box, [Secret(secret)]), secret_hint=hint(secret), created_ms=now,
        updated_ms=now,
    )  # fmt: skip
    shown = JobWebhook(
        endpoint_id=ENDPOINT_PREFIX + endpoint.id, url=url, events=json.decode(endpoint.event_types),
        secret=secret if webhook.secret is None else None, include_result=webhook.include_result,
    )  # fmt: skip
    return Notice(notify=f"{names or EVERYBODY}+{endpoint.id}", endpoint=endpoint, shown=shown)


async def _named(call: Call, endpoint_ids: list[str]) -> str:
    """Return the bare ids of the caller's endpoints; raises `NotFoundError`."""
    if not endpoint_ids:
        return ""
    async with call.state.database.read() as session:
        rows = [await get_endpoint(session, call.caller.user_id, one, "webhook_endpoint_ids") for one in endpoint_ids]
    return ",".join(dict.fromkeys(row.id for row in rows))


class InvalidHeaderError(BadRequestError):
    """A header cannot be set by the owner of an endpoint."""

    code = "webhook_header_not_allowed"

    def __init__(self, name: str) -> None:
        super().__init__(f"The header `{name}` cannot be set.", param="headers")


def seal_headers(box: SecretBox, headers: dict[str, str] | None) -> bytes | None:
    """Return the headers encrypted, since there may be a token among them; raises `InvalidHeaderError`."""
    for name in headers or ():
        if name.lower() in _OWN_HEADERS:
            raise InvalidHeaderError(name)
    return box.seal(json.encode(headers).decode()) if headers else None


def to_endpoint(row: WebhookEndpointRow, box: SecretBox) -> WebhookEndpoint:
    """Return the wire form of an endpoint."""
    try:
        headers = unseal_headers(box, row.headers_sealed)
    except InvalidTag:  # sealed with another secret of the installation: deliveries say so, and new headers mend it
        headers = {}
    return WebhookEndpoint(
        id=ENDPOINT_PREFIX + row.id,
        name=row.name,
        description=row.description,
        url=row.url,
        event_types=json.decode(row.event_types, type=list[str]),
        kinds=json.decode(row.kinds, type=list[str]) if row.kinds else None,
        headers=json.decode(redact_headers(headers.items()), type=dict[str, str]),
        include_result=row.include_result,
        status=row.status,  # type: ignore[arg-type]  # a column
        disabled_reason=row.disabled_reason,
        resting_until=_resting_until(row),
        created_at=row.created_ms // 1000,
        updated_at=row.updated_ms // 1000,
        signing_secret_hint=row.secret_hint,
    )


def _resting_until(row: WebhookEndpointRow) -> int | None:
    """Return when the breaker of an endpoint lets a try through, in Unix seconds; None if it does now."""
    is_resting = row.status == "enabled" and row.pause_s > 0 and (row.open_until_ms or 0) > now_ms()
    return to_seconds(row.open_until_ms) if is_resting else None


def to_delivery(
    row: WebhookDeliveryRow, endpoint: WebhookEndpointRow, attempts: list[WebhookAttemptRow]
) -> WebhookDelivery:
    """Return the wire form of a delivery, without its body."""
    status = shown_status(row, endpoint)
    return WebhookDelivery(
        id=DELIVERY_PREFIX + row.id,
        webhook_endpoint_id=ENDPOINT_PREFIX + row.endpoint_id,
        event_id=f"evt_{row.event_id}",
        event_type=row.event_type,
        status=status,  # type: ignore[arg-type]  # a column
        created_at=row.created_ms // 1000,
        delivered_at=to_seconds(row.delivered_ms),
        next_attempt_at=to_seconds(row.due_ms) if status in ("pending", "failed") else None,
        attempts=[_to_attempt(attempt) for attempt in attempts],
    )


def _to_attempt(row: WebhookAttemptRow) -> WebhookAttempt:
    return WebhookAttempt(
        number=row.number,
        trigger=row.origin,  # type: ignore[arg-type]  # a column
        started_at=row.started_ms // 1000,
        latency_ms=row.latency_ms,
        status_code=row.status_code,
        error_class=row.error_class,
        error=row.error,
        remote_address=row.remote_address,
        response_snippet=row.response_snippet,
    )
