"""Make one try of a delivery.

claim    one compare-and-set with a lease: the delivery is due, its endpoint enabled, its breaker closed
send     outside of any transaction
record   one transaction, fenced by the lease: delivery · tries · breaker · what is told because of it

A worker that dies in between leaves a lease that runs out; then the try is made again, with the same event id.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import structlog
from cryptography.exceptions import InvalidTag
from msgspec import Struct, json
from msgspec.structs import replace
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from shared import fault_points
from shared.clock import now_ms
from shared.group_commit.units import CommitError, Result, StaleError, Statement
from shared.ids import new_ulid
from shared.metrics import WEBHOOK_TRIES
from shared.webhooks.bodies import render_delivery
from shared.webhooks.endpoint_events import disable_endpoint
from shared.webhooks.events import DELIVERY_EXHAUSTED, OPERATIONAL
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.schedule import Failing, is_hopeless, next_delay_s, next_pause_s
from shared.webhooks.sending import Outgoing, Try, send
from shared.webhooks.signature import unseal, unseal_headers
from shared.webhooks.statements import (
    EVERYBODY,
    NewAttempt,
    NewEvent,
    TriedDelivery,
    abandon,
    claim,
    claim_probe,
    deliver_event,
    deliveries_of,
    fail,
    insert_attempt,
    open_breaker,
    pause,
    postpone,
    record,
    succeed,
)
from shared.webhooks.tables import WebhookDeliveryRow, WebhookEndpointRow
from worker.context import Runtime
from worker.settle import commit
from worker.webhooks.tracing import send_traced

log = structlog.get_logger()
_LATE_S: Final = 3.0
"""A try that could not begin this soon after its claim is left to the next one: its lease might run out."""
_PROBE_TAKES_MS: Final = 15_000


class _Claimed(Struct, kw_only=True):
    """A delivery whose try has begun, and its endpoint."""

    row: WebhookDeliveryRow
    lease: str
    url: str
    headers_sealed: bytes | None
    secrets_sealed: bytes
    include_result: bool
    begun: float
    """Monotonic seconds."""


async def deliver_webhook(arq: dict[str, Any], delivery_id: str) -> None:
    """Make one try of a delivery; the arq function of webhooks.  Nothing to do if it is not due any more."""
    runtime: Runtime = arq["runtime"]
    try:
        claimed = await _claim(runtime, delivery_id)
        if claimed is None:
            return
        tries = await _send(runtime, claimed)
    except (CommitError, SQLAlchemyError, OSError) as error:  # the database is away; the reconciler finds what is due
        log.warning("webhook_tried_later", delivery_id=delivery_id, error=repr(error))
        return
    fault_points.reach(runtime.settings, "before_webhook_recorded")
    if tries:
        await _record(runtime, claimed, tries)


async def _claim(runtime: Runtime, delivery_id: str) -> _Claimed | None:
    """Begin the try; None if there is none to make now."""
    lease, begun = new_ulid(), time.monotonic()
    try:
        unit = claim(delivery_id, lease, now_ms())
        return _claimed(delivery_id, lease, begun, await runtime.writer.execute_many(unit, durable=False))
    except StaleError:
        return await _claim_otherwise(runtime, delivery_id)


async def _claim_otherwise(runtime: Runtime, delivery_id: str) -> _Claimed | None:
    """Find out why there is no try to make, and when to look again."""
    now, lease, begun = now_ms(), new_ulid(), time.monotonic()
    joined = select(WebhookDeliveryRow, WebhookEndpointRow).join(
        WebhookEndpointRow, col(WebhookEndpointRow.id) == WebhookDeliveryRow.endpoint_id, isouter=True
    )
    async with runtime.database.read() as session:
        found = (await session.exec(joined.where(WebhookDeliveryRow.id == delivery_id))).first()
    if found is None or found[0].due_ms is None or found[0].due_ms > now:
        return None
    row: WebhookDeliveryRow = found[0]
    endpoint: WebhookEndpointRow | None = found[1]
    if endpoint is None:
        await runtime.writer.execute_many((abandon(delivery_id),))
    elif endpoint.status != "enabled":
        await runtime.writer.execute_many((pause(delivery_id, now),))
    elif endpoint.open_until_ms is not None and endpoint.open_until_ms > now and not _is_asked_for(row):
        await runtime.writer.execute_many((postpone(delivery_id, now, endpoint.open_until_ms),))
    elif endpoint.pause_s:
        try:
            unit = claim_probe(delivery_id, endpoint.id, lease, now, does_end_rest=_is_asked_for(row))
            return _claimed(delivery_id, lease, begun, await runtime.writer.execute_many(unit, durable=False))
        except StaleError:  # another one probes
            await runtime.writer.execute_many((postpone(delivery_id, now, now + _PROBE_TAKES_MS),))
    return None


def _is_asked_for(row: WebhookDeliveryRow) -> bool:
    """Return whether somebody waits for this try: it does not wait for the end of a rest, but is the probe itself."""
    return row.origin == "manual" and row.step == 0


def _claimed(delivery_id: str, lease: str, begun: float, results: Sequence[Result]) -> _Claimed:
    (
        endpoint_id, user_id, event_id, event_type, object_id, data, is_test, traceparent, tracestate, created_ms,
        origin, attempts, step,
    ) = results[0].rows[0]  # fmt: skip
    url, headers_sealed, secrets_sealed, include_result = results[1].rows[0]
    row = WebhookDeliveryRow(
        id=delivery_id, endpoint_id=endpoint_id, user_id=user_id, event_id=event_id, event_type=event_type,
        object_id=object_id, data=data, is_test=bool(is_test), traceparent=traceparent, tracestate=tracestate,
        created_ms=created_ms, status="delivering", origin=origin, attempts=attempts, step=step,
    )  # fmt: skip
    return _Claimed(
        row=row, lease=lease, url=url, headers_sealed=headers_sealed, secrets_sealed=secrets_sealed,
        include_result=bool(include_result), begun=begun,
    )  # fmt: skip


async def _send(runtime: Runtime, claimed: _Claimed) -> list[Try]:
    """Send it and return how that ended; twice if the connection broke at once at the first try of a schedule."""
    row = claimed.row
    try:
        outgoing = await _outgoing(runtime, claimed)
    except InvalidTag:
        log.error("webhook_secret_unreadable", endpoint_id=row.endpoint_id, setting="SLUICE_ENCRYPTION_KEY")  # noqa: TRY400
        return [Try(started_ms=now_ms(), latency_ms=0, error_class="connect", error="the secret cannot be read")]
    if time.monotonic() - claimed.begun > _LATE_S:
        return []
    tries = [await _try(runtime, row, outgoing)]
    if tries[0].is_reset and row.step == 0:
        tries.append(await _try(runtime, row, outgoing))
    return tries


async def _try(runtime: Runtime, row: WebhookDeliveryRow, outgoing: Outgoing) -> Try:
    if runtime.tracer is None:
        return await send(runtime.webhooks, outgoing)
    return await send_traced(runtime.tracer, runtime.webhooks, row, outgoing)


async def _outgoing(runtime: Runtime, claimed: _Claimed) -> Outgoing:
    """Return what to send; raises `InvalidTag` if it was sealed with another secret of the installation."""
    headers = unseal_headers(runtime.box, claimed.headers_sealed)
    body = await render_delivery(runtime.database, claimed.row, include_result=claimed.include_result)
    return Outgoing(
        url=claimed.url,
        event_id=f"evt_{claimed.row.event_id}",
        body=body,
        secrets=unseal(runtime.box, claimed.secrets_sealed),
        headers=headers,
    )


async def _record(runtime: Runtime, claimed: _Claimed, tries: list[Try]) -> None:
    """Store how the try ended, tell the breaker, and whoever wants to know if it was the last one."""
    row, last, now = claimed.row, tries[-1], now_ms()
    tried = _judge(claimed, tries, now)
    statements: list[Statement] = [record(tried)]
    statements += [
        insert_attempt(
            NewAttempt(
                delivery_id=row.id, number=row.attempts + index, origin=row.origin, started_ms=one.started_ms,
                latency_ms=one.latency_ms, status_code=one.status_code, error_class=one.error_class, error=one.error,
                remote_address=one.remote_address, response_snippet=one.snippet,
            )
        )
        for index, one in enumerate(tries)
    ]  # fmt: skip
    if tried.status == "exhausted" and row.event_type not in OPERATIONAL:
        statements += deliver_event(_exhausted(row, now), EVERYBODY, but=row.endpoint_id)
    runtime.metrics.count(WEBHOOK_TRIES, "delivered" if last.is_delivered else last.error_class or "failed")
    statements.append(succeed(row.endpoint_id) if last.is_delivered else fail(row.endpoint_id, now))
    # an outcome that a loss of power forgets is a try that is made again, which receivers must expect anyway
    results = await commit(runtime.writer, tuple(statements), durable=False)
    if results is None:
        log.warning("webhook_lease_was_lost", delivery_id=row.id)
        return
    enqueue_deliveries(runtime.deliveries, deliveries_of(statements, results))
    if not last.is_delivered and results[-1].rows:
        await _act_on_failure(runtime, row, last, Failing(*results[-1].rows[0]))


def _exhausted(row: WebhookDeliveryRow, now: int) -> NewEvent:
    data = {
        "id": f"whd_{row.id}", "status": "exhausted", "webhook_endpoint_id": f"we_{row.endpoint_id}",
        "event_id": f"evt_{row.event_id}", "event_type": row.event_type,
    }  # fmt: skip
    return NewEvent(
        id=new_ulid(), type=DELIVERY_EXHAUSTED, user_id=row.user_id, object_id=row.id, data=json.encode(data).decode(),
        created_ms=now,
    )  # fmt: skip


def _judge(claimed: _Claimed, tries: list[Try], now: int) -> TriedDelivery:
    """Return what becomes of the delivery."""
    row, last = claimed.row, tries[-1]
    tried = TriedDelivery(
        id=row.id, lease=claimed.lease, status="delivered", due_ms=None, attempts=row.attempts + len(tries) - 1,
        delivered_ms=now,
    )  # fmt: skip
    if last.is_delivered:
        return tried
    tried = replace(tried, delivered_ms=None)
    if last.error_class == "aborted":
        return replace(tried, status="aborted")
    delay_s = next_delay_s(row.step + 1, last.retry_after_s)
    if delay_s is None:
        return replace(tried, status="exhausted")
    return replace(tried, status="failed", due_ms=now + int(delay_s * 1000))


async def _act_on_failure(runtime: Runtime, row: WebhookDeliveryRow, last: Try, found: Failing) -> None:
    """Open the breaker, or disable the endpoint, if it is time."""
    now = now_ms()
    if last.is_gone or is_hopeless(found, now):
        reason = "the receiver answered 410" if last.is_gone else "nothing but failures for five days"
        unit = disable_endpoint(row.endpoint_id, row.user_id, reason, now)
        if (results := await commit(runtime.writer, unit)) is not None:
            log.warning("webhook_endpoint_disabled", endpoint_id=row.endpoint_id, reason=reason)
            enqueue_deliveries(runtime.deliveries, deliveries_of(unit, results))
    elif (pause_s := next_pause_s(found, now)) is not None:
        statement = open_breaker(row.endpoint_id, now, pause_s=pause_s, last_pause_s=found.pause_s)
        await commit(runtime.writer, (statement,))
