"""/v1/webhook_endpoints: where the events of one's own jobs and batches go."""

from typing import Any, Final

from cryptography.exceptions import InvalidTag
from msgspec import UNSET, json
from msgspec.structs import asdict

from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.webhooks import InvalidHeaderError, owner_of, seal_headers, to_endpoint
from shared.clock import now_ms
from shared.errors import (
    BadRequestError,
    InvalidCursorError,
    NotFoundError,
    PermissionDeniedError,
    StorageUnavailableError,
)
from shared.group_commit.units import CommitError, StaleError
from shared.ids import new_ulid, parse_id
from shared.lists import cursor_page
from shared.webhooks.endpoint_events import disable_endpoint
from shared.webhooks.events import UnknownEventTypeError, check_event_types
from shared.webhooks.queries import (
    ENDPOINT_PREFIX,
    count_endpoints,
    delete_endpoint,
    enable_endpoint,
    get_endpoint,
    list_endpoints,
)
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.schemas import (
    CreateWebhookEndpointRequest,
    ListWebhookEndpointsQuery,
    RotateSecretRequest,
    UpdateWebhookEndpointRequest,
    WebhookEndpoint,
    WebhookEndpointDeleted,
    WebhookEndpointPage,
    WebhookEndpointWithSecret,
)
from shared.webhooks.signature import Secret, hint, new_secret, rotate, seal, unseal, unseal_headers
from shared.webhooks.statements import deliveries_of
from shared.webhooks.tables import WebhookEndpointRow
from shared.webhooks.urls import WebhookUrlNotAllowedError, check_webhook_url

routes = Routes("Webhooks")
_MOST: Final = 100
_DAY_S: Final = 86_400


class TooManyWebhookEndpointsError(BadRequestError):
    """A user has as many endpoints as there may be."""

    code = "too_many_webhook_endpoints"

    def __init__(self) -> None:
        super().__init__(f"There may be {_MOST} webhook endpoints.")


_REFUSALS: Final = (WebhookUrlNotAllowedError, UnknownEventTypeError, InvalidHeaderError)


@routes.post("/v1/webhook_endpoints", raises=(*_REFUSALS, TooManyWebhookEndpointsError))
async def create_webhook_endpoint(call: Call, body: CreateWebhookEndpointRequest) -> WebhookEndpointWithSecret:
    """Have events sent to a URL: those of all that is accepted from now on.

    `signing_secret` is shown this one time.
    """
    check_event_types(body.event_types, "event_types")
    headers_sealed = seal_headers(call.state.box, body.headers)
    url = await check_webhook_url(body.url, call.state.settings, "url")
    secret, now = new_secret(), now_ms()
    row = WebhookEndpointRow(
        id=new_ulid(), user_id=call.caller.user_id, name=body.name, description=body.description, url=url,
        event_types=_as_text(body.event_types), kinds=None if body.kinds is None else _as_text(body.kinds),
        headers_sealed=headers_sealed, include_result=body.include_result,
        secrets_sealed=seal(call.state.box, [Secret(secret)]), secret_hint=hint(secret), created_ms=now,
        updated_ms=now,
    )  # fmt: skip
    async with call.state.database.transaction() as session:
        if await count_endpoints(session, call.caller.user_id) >= _MOST:
            raise TooManyWebhookEndpointsError
        session.add(row)
        return await keep_answer(session, call, _with_secret(to_endpoint(row, call.state.box), secret))


def _as_text(names: list[str]) -> str:
    return json.encode(sorted(set(names))).decode()


def _with_secret(endpoint: WebhookEndpoint, secret: str) -> WebhookEndpointWithSecret:
    return WebhookEndpointWithSecret(**asdict(endpoint), signing_secret=secret)


@routes.get("/v1/webhook_endpoints", raises=(InvalidCursorError,))
async def list_webhook_endpoints(call: Call, query: ListWebhookEndpointsQuery) -> WebhookEndpointPage:
    """List one's endpoints, newest first; administrators see those of everybody."""
    after = None
    if query.after is not None and (after := parse_id(query.after, ENDPOINT_PREFIX)) is None:
        raise InvalidCursorError(f"`{query.after}` is not the id of a webhook endpoint.", param="after")
    async with call.state.database.read() as session:
        rows, has_more = await list_endpoints(session, owner_of(call), after, query.limit)
    data = [to_endpoint(row, call.state.box) for row in rows]
    return cursor_page(data, has_more=has_more)


@routes.get("/v1/webhook_endpoints/{webhook_endpoint_id}", raises=(NotFoundError,))
async def get_webhook_endpoint(call: Call, webhook_endpoint_id: str) -> WebhookEndpoint:
    """Get an endpoint without its secret."""
    async with call.state.database.read() as session:
        row = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
    return to_endpoint(row, call.state.box)


@routes.post("/v1/webhook_endpoints/{webhook_endpoint_id}", raises=(NotFoundError, *_REFUSALS))
async def update_webhook_endpoint(
    call: Call, webhook_endpoint_id: str, body: UpdateWebhookEndpointRequest
) -> WebhookEndpoint:
    """Change an endpoint; what is left out stays.  Deliveries that wait go to the new URL."""
    changes = await _changes(call, body)
    async with call.state.database.transaction() as session:
        row = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
        if {"url", "include_result", "headers_sealed"} & changes.keys():
            _check_owner(call, row)
        if body.headers is not UNSET and _has_headers(call, row, body.headers):
            changes.pop("headers_sealed")
        changed = {name: value for name, value in changes.items() if getattr(row, name) != value}
        for name, value in (changed | ({"updated_ms": now_ms()} if changed else {})).items():
            setattr(row, name, value)
        session.add(row)
    return to_endpoint(row, call.state.box)


def _check_owner(call: Call, row: WebhookEndpointRow) -> None:
    """Raise `PermissionDeniedError` for an administrator who would have the content of others sent elsewhere."""
    if row.user_id != call.caller.user_id:
        raise PermissionDeniedError("Only the owner of a webhook endpoint changes where and what it sends.")


async def _changes(call: Call, body: UpdateWebhookEndpointRequest) -> dict[str, Any]:
    """Return the columns that the request sets."""
    changes = {
        name: value for name in ("name", "description", "include_result") if (value := getattr(body, name)) is not UNSET
    }
    if body.event_types is not UNSET:
        check_event_types(body.event_types, "event_types")
        changes["event_types"] = _as_text(body.event_types)
    if body.kinds is not UNSET:
        changes["kinds"] = None if body.kinds is None else _as_text(body.kinds)
    if body.headers is not UNSET:
        changes["headers_sealed"] = seal_headers(call.state.box, body.headers)
    if body.url is not UNSET:
        changes["url"] = await check_webhook_url(body.url, call.state.settings, "url")
    return changes


def _has_headers(call: Call, row: WebhookEndpointRow, headers: dict[str, str] | None) -> bool:
    """Return whether these are the headers it has."""
    try:
        return unseal_headers(call.state.box, row.headers_sealed) == (headers or {})
    except InvalidTag:
        return False


def _unseal_or_forget(call: Call, row: WebhookEndpointRow) -> list[Secret]:
    """Return the secrets; none if they were sealed with another secret of the installation, which a new one mends."""
    try:
        return unseal(call.state.box, row.secrets_sealed)
    except InvalidTag:
        return []


@routes.delete("/v1/webhook_endpoints/{webhook_endpoint_id}", raises=(NotFoundError,))
async def delete_webhook_endpoint(call: Call, webhook_endpoint_id: str) -> WebhookEndpointDeleted:
    """Delete an endpoint; nothing is sent there any more."""
    async with call.state.database.transaction() as session:
        row = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
        await delete_endpoint(session, row)
    return WebhookEndpointDeleted(id=ENDPOINT_PREFIX + row.id, deleted=True)


@routes.post("/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret", raises=(NotFoundError,))
async def rotate_webhook_secret(
    call: Call, webhook_endpoint_id: str, body: RotateSecretRequest
) -> WebhookEndpointWithSecret:
    """Make a new secret, shown this one time; during the overlap the old one signs, too."""
    overlap_s = _DAY_S if body.keep_old_secret_active_for_24_hours else 0
    overlap_s = overlap_s if body.overlap_seconds is None else body.overlap_seconds
    secret, now, box = new_secret(), now_ms(), call.state.box
    async with call.state.database.transaction() as session:
        row = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
        _check_owner(call, row)
        row.secrets_sealed = seal(box, rotate(_unseal_or_forget(call, row), secret, now, overlap_s))
        row.secret_hint, row.updated_ms = hint(secret), now
        session.add(row)
        return await keep_answer(session, call, _with_secret(to_endpoint(row, box), secret))


@routes.post("/v1/webhook_endpoints/{webhook_endpoint_id}/enable", raises=(NotFoundError,))
async def enable_webhook_endpoint(call: Call, webhook_endpoint_id: str) -> WebhookEndpoint:
    """Go on sending, with what was paused, too; also ends a pause of the circuit breaker."""
    async with call.state.database.transaction() as session:
        row = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
        resumed = await enable_endpoint(session, row, now_ms())
    enqueue_deliveries(call.state.deliveries, resumed)
    return to_endpoint(row, call.state.box)


@routes.post("/v1/webhook_endpoints/{webhook_endpoint_id}/disable", raises=(NotFoundError,))
async def disable_webhook_endpoint(call: Call, webhook_endpoint_id: str) -> WebhookEndpoint:
    """Send nothing for now; events are kept as paused deliveries."""
    async with call.state.database.read() as session:
        row = await get_endpoint(session, owner_of(call), webhook_endpoint_id)
    unit = disable_endpoint(row.id, row.user_id, "disabled by its owner", now_ms())
    try:
        results = await call.state.writer.execute_many(unit)
        enqueue_deliveries(call.state.deliveries, deliveries_of(unit, results))
    except StaleError:
        pass  # it is disabled already
    except CommitError as error:
        raise StorageUnavailableError from error
    async with call.state.database.read() as session:
        return to_endpoint(await get_endpoint(session, owner_of(call), webhook_endpoint_id), call.state.box)
