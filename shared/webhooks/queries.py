"""Every statement on webhooks but the hot writes.  The session comes first; nothing here commits."""

import re
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import delete, func, text, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import NotFoundError
from shared.ids import parse_id
from shared.webhooks.endpoint_events import BY_OWNER
from shared.webhooks.schemas import ListWebhookDeliveriesQuery
from shared.webhooks.statements import Delivery, NewEvent, deliver_event
from shared.webhooks.tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow

ENDPOINT_PREFIX: Final = "we_"
DELIVERY_PREFIX: Final = "whd_"
_CAUSES: Final = {"failures": False, "owner": True}
_PLACE: Final = re.compile(r"\$(\d+)")


async def get_endpoint(
    session: AsyncSession, user_id: int | None, public_id: str, param: str = "webhook_endpoint_id"
) -> WebhookEndpointRow:
    """Return the endpoint; raises `NotFoundError` if it is absent or another user's (`user_id` None: anybody's)."""
    ulid = parse_id(public_id, ENDPOINT_PREFIX)
    row = None if ulid is None else await session.get(WebhookEndpointRow, ulid)
    if row is None or user_id not in (None, row.user_id):
        raise NotFoundError(f"No webhook endpoint `{public_id[:100]}`.", param=param)
    return row


async def list_endpoints(
    session: AsyncSession, user_id: int | None, after: str | None, limit: int
) -> tuple[list[WebhookEndpointRow], bool]:
    """Return at most so many standing endpoints, newest first, and whether more follow."""
    statement = select(WebhookEndpointRow).where(col(WebhookEndpointRow.object_id).is_(None))
    if user_id is not None:
        statement = statement.where(WebhookEndpointRow.user_id == user_id)
    if after is not None:
        statement = statement.where(WebhookEndpointRow.id < after)
    rows = (await session.exec(statement.order_by(col(WebhookEndpointRow.id).desc()).limit(limit + 1))).all()
    return list(rows[:limit]), len(rows) > limit


async def count_endpoints(session: AsyncSession, user_id: int) -> int:
    """Return how many standing endpoints a user has."""
    statement = select(func.count()).select_from(WebhookEndpointRow)
    own = (WebhookEndpointRow.user_id == user_id, col(WebhookEndpointRow.object_id).is_(None))
    return (await session.exec(statement.where(*own))).one()


async def get_delivery(
    session: AsyncSession, user_id: int | None, public_id: str
) -> tuple[WebhookDeliveryRow, WebhookEndpointRow]:
    """Return the delivery and its endpoint; raises `NotFoundError` like `get_endpoint`."""
    ulid = parse_id(public_id, DELIVERY_PREFIX)
    row = None if ulid is None else await session.get(WebhookDeliveryRow, ulid)
    endpoint = None if row is None else await session.get(WebhookEndpointRow, row.endpoint_id)
    if row is None or endpoint is None or user_id not in (None, row.user_id):
        raise NotFoundError(f"No webhook delivery `{public_id[:100]}`.", param="webhook_delivery_id")
    return row, endpoint


async def list_deliveries(
    session: AsyncSession, endpoint: WebhookEndpointRow, query: ListWebhookDeliveriesQuery, after: str | None
) -> tuple[list[WebhookDeliveryRow], bool]:
    """Return at most `query.limit` deliveries of an endpoint, newest first, and whether more follow."""
    statement = select(WebhookDeliveryRow).where(WebhookDeliveryRow.endpoint_id == endpoint.id)
    if query.status is not None:
        statement = statement.where(col(WebhookDeliveryRow.status).in_(_stored_as(query.status, endpoint)))
    if query.event_type is not None:
        statement = statement.where(WebhookDeliveryRow.event_type == query.event_type)
    if query.created_after is not None:
        statement = statement.where(WebhookDeliveryRow.created_ms >= query.created_after * 1000)
    if query.created_before is not None:
        statement = statement.where(WebhookDeliveryRow.created_ms < query.created_before * 1000)
    if after is not None:
        statement = statement.where(WebhookDeliveryRow.id < after)
    ordered = statement.order_by(col(WebhookDeliveryRow.id).desc()).limit(query.limit + 1)
    rows = list((await session.exec(ordered)).all())
    return rows[: query.limit], len(rows) > query.limit


def shown_status(row: WebhookDeliveryRow, endpoint: WebhookEndpointRow) -> str:
    """Return the status of a delivery: those of a disabled endpoint rest, though nobody has looked at them yet."""
    is_waiting = row.status in ("pending", "failed")
    return "paused" if is_waiting and endpoint.status != "enabled" else row.status


def _stored_as(status: str, endpoint: WebhookEndpointRow) -> Sequence[str]:
    """Return the stored states that are shown as this one."""
    if endpoint.status == "enabled":
        return (status,)
    waiting = ("pending", "failed")
    return (*waiting, "paused") if status == "paused" else () if status in waiting else (status,)


async def list_attempts(session: AsyncSession, delivery_ids: Sequence[str]) -> dict[str, list[WebhookAttemptRow]]:
    """Return the tries of these deliveries, oldest first."""
    statement = select(WebhookAttemptRow).where(col(WebhookAttemptRow.delivery_id).in_(delivery_ids))
    found: dict[str, list[WebhookAttemptRow]] = {}
    for row in (await session.exec(statement.order_by(col(WebhookAttemptRow.number)))).all():
        found.setdefault(row.delivery_id, []).append(row)
    return found


async def restart_deliveries(session: AsyncSession, origin: str, now_ms: int, *conditions: Any) -> list[Delivery]:
    """Begin the schedule of the deliveries anew, now; what is under way is left alone."""
    restarted = (
        update(WebhookDeliveryRow)
        .where(col(WebhookDeliveryRow.status) != "delivering", *conditions)
        .values(status="pending", origin=origin, due_ms=now_ms, step=0, delivered_ms=None)
        .returning(col(WebhookDeliveryRow.id), col(WebhookDeliveryRow.endpoint_id), col(WebhookDeliveryRow.user_id))
    )
    return [Delivery(*row) for row in (await session.exec(restarted)).all()]


def of_window(endpoint_id: str, statuses: Sequence[str], since_ms: int, until_ms: int) -> tuple[Any, ...]:
    """Return the conditions of the deliveries of an endpoint whose events are of this window."""
    return (
        col(WebhookDeliveryRow.endpoint_id) == endpoint_id,
        col(WebhookDeliveryRow.status).in_(statuses),
        col(WebhookDeliveryRow.created_ms) >= since_ms,
        col(WebhookDeliveryRow.created_ms) <= until_ms,
        col(WebhookDeliveryRow.is_test).is_(False),
    )


async def insert_event(session: AsyncSession, event: NewEvent, notify: str) -> list[Delivery]:
    """Make the deliveries of an event in the transaction of the session; returns those that can be enqueued after it.

    The same as `statements.deliver_event`, for what is not written through the group-commit writer.
    """
    made: list[Any] = []
    for statement in deliver_event(event, notify):
        sql = text(_PLACE.sub(r":p\1", statement.sql))
        parameters = {f"p{number}": value for number, value in enumerate(statement.parameters, 1)}
        made += (await session.exec(sql, params=parameters)).all()  # type: ignore[call-overload]  # plain SQL
    return [Delivery(*row[:3]) for row in made if row[3] == "pending"]


async def enable_endpoint(session: AsyncSession, endpoint: WebhookEndpointRow, now_ms: int) -> list[Delivery]:
    """Enable an endpoint with a clean slate.

    Returns the deliveries that go on now: paused ones, and those that waited for the breaker.
    """
    found = await close_breaker(session, endpoint, now_ms)
    endpoint.status, endpoint.disabled_reason, endpoint.updated_ms = "enabled", None, now_ms
    return found


async def close_breaker(session: AsyncSession, endpoint: WebhookEndpointRow, now_ms: int) -> list[Delivery]:
    """Forget the failures of an endpoint; returns the deliveries that go on now."""
    resumed = (  # deliveries before their endpoint, as the worker locks them
        update(WebhookDeliveryRow)
        .where(
            col(WebhookDeliveryRow.endpoint_id) == endpoint.id,
            col(WebhookDeliveryRow.status).in_(("paused", "pending")),
        )
        .values(status="pending", due_ms=now_ms)
        .returning(col(WebhookDeliveryRow.id), col(WebhookDeliveryRow.endpoint_id), col(WebhookDeliveryRow.user_id))
    )
    found = [Delivery(*row) for row in (await session.exec(resumed)).all()]
    endpoint.streak = endpoint.recent = endpoint.recent_count = endpoint.pause_s = 0
    endpoint.failing_since_ms = endpoint.open_until_ms = endpoint.probe_until_ms = None
    session.add(endpoint)
    return found


async def end_rest(session: AsyncSession, endpoint: WebhookEndpointRow, now_ms: int) -> None:
    """Let the next try of an endpoint be the probe of its breaker, if that rests; after the deliveries in its unit."""
    resting = (col(WebhookEndpointRow.id) == endpoint.id, col(WebhookEndpointRow.open_until_ms) > now_ms)
    await session.exec(update(WebhookEndpointRow).where(*resting).values(open_until_ms=now_ms))


async def count_disabled(session: AsyncSession) -> dict[str, tuple[int, int]]:
    """Return cause (`failures` or `owner`) → standing endpoints that are disabled, deliveries that are kept for any."""
    by_owner = col(WebhookEndpointRow.disabled_reason) == BY_OWNER
    is_disabled = col(WebhookEndpointRow.status) == "disabled"
    standing = is_disabled & col(WebhookEndpointRow.object_id).is_(None)
    endpoints = select(by_owner, func.count()).where(standing).group_by(by_owner)
    kept = select(by_owner, func.count()).join(
        WebhookDeliveryRow, col(WebhookDeliveryRow.endpoint_id) == WebhookEndpointRow.id
    )
    paused = kept.where(is_disabled, WebhookDeliveryRow.status == "paused").group_by(by_owner)
    found = [{bool(owner): count for owner, count in await session.exec(one)} for one in (endpoints, paused)]
    return {cause: (found[0].get(owner, 0), found[1].get(owner, 0)) for cause, owner in _CAUSES.items()}


async def delete_endpoint(session: AsyncSession, endpoint: WebhookEndpointRow) -> None:
    """Delete an endpoint; its deliveries are not tried any more, and removed in their time."""
    await session.exec(delete(WebhookEndpointRow).where(col(WebhookEndpointRow.id) == endpoint.id))
