"""Put deliveries into the queue that are due and not there: retries, and whatever was lost on the way."""

from typing import Any, Final

import structlog
from sqlalchemy import text
from sqlmodel import col, select

from shared.clock import now_ms
from shared.ids import oldest_ulid
from shared.webhooks.queue import queue_entry
from shared.webhooks.statements import Delivery
from shared.webhooks.tables import WebhookDeliveryRow, WebhookEndpointRow
from worker.context import Runtime

log = structlog.get_logger()
_PAGE: Final = 500
_OWN_LIVES_MS: Final = 40 * 86_400_000
"""Longest time between the acceptance of a job and its end."""

# looked at every second, hence as plain SQL: an ORM statement takes longer to build than to run
_DUE: Final = text("""
SELECT id, endpoint_id, user_id, due_ms FROM webhook_deliveries
WHERE due_ms IS NOT NULL AND due_ms <= :until AND (due_ms > :since OR (due_ms = :since AND id > :after))
ORDER BY due_ms, id LIMIT :page
""")
_WAKE: Final = text("""
UPDATE webhook_deliveries SET status = 'pending', due_ms = :now WHERE status = 'paused'
    AND EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.id = endpoint_id AND e.status = 'enabled')
""")


async def enqueue_due(runtime: Runtime, since_ms: int) -> None:
    """Enqueue the deliveries that are due since then and that the queue does not know."""
    until, since, after = now_ms(), since_ms, ""
    while True:
        span = {"since": since, "until": until, "after": after, "page": _PAGE}
        async with runtime.database.engine.connect() as connection:
            rows = (await connection.execute(_DUE, span)).all()
        if not rows:
            return
        missing = set(await runtime.deliveries.missing([row.id for row in rows]))
        found = [Delivery(row.id, row.endpoint_id, row.user_id) for row in rows if row.id in missing]
        if found:
            await runtime.deliveries.ensure([queue_entry(delivery) for delivery in found])
        if len(rows) < _PAGE:
            return
        since, after = rows[-1].due_ms, rows[-1].id


async def wake_paused(runtime: Runtime) -> None:
    """Go on with deliveries that were paused at the very moment in which their endpoint was enabled."""
    async with runtime.database.transaction() as session:
        await session.exec(_WAKE, params={"now": now_ms()})  # type: ignore[call-overload]  # plain SQL


def old_deliveries(runtime: Runtime, now: int) -> Any:
    """Return the SELECT of deliveries that have been kept long enough."""
    oldest = oldest_ulid(now - runtime.settings.webhook_delivery_ttl_s * 1000)
    return select(WebhookDeliveryRow.id).where(WebhookDeliveryRow.id < oldest, col(WebhookDeliveryRow.due_ms).is_(None))


def old_own_endpoints(runtime: Runtime, now: int) -> Any:
    """Return the SELECT of endpoints made for one object that is long over."""
    oldest = oldest_ulid(now - _OWN_LIVES_MS - runtime.settings.webhook_delivery_ttl_s * 1000)
    return select(WebhookEndpointRow.id).where(
        WebhookEndpointRow.id < oldest, col(WebhookEndpointRow.object_id).is_not(None)
    )
