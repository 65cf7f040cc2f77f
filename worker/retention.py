"""Remove what has been kept long enough: a cron job of the platform lane."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import delete
from sqlmodel import col, select

from shared.batches.tables import BatchRow
from shared.clock import now_ms
from shared.database import Database
from shared.files.queries import list_expired_files, remove_files
from shared.files.tables import FileRow
from shared.idempotency.queries import delete_idempotency_keys
from shared.ids import oldest_ulid
from shared.jobs.queries import remove_bodies
from shared.jobs.schemas import IN_PROGRESS
from shared.jobs.tables import JobEventRow, JobRow
from shared.organizations.tables import OrganizationRow
from shared.request_logs.partitions import drop_partitions, is_partitioned, make_partitions
from shared.request_logs.tables import RequestLogRow
from shared.webhooks.tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow
from worker.context import Runtime
from worker.file_sweep import sweep_files, sweep_uploads
from worker.reconciler import Reconciler, alone
from worker.webhooks.sweep import old_deliveries, old_own_endpoints

_PAGE: Final = 500


async def retain(ctx: dict[str, Any]) -> None:
    """Remove requests, results and logs that have been kept long enough; ledger rows stay for ever.

    Page by page, so that nobody who writes has to wait; ids sort by time, so no index is needed for age.
    """
    reconciler: Reconciler = ctx["reconciler"]
    async with alone(reconciler, "retain") as is_alone:
        if is_alone:
            await remove_old(reconciler)


async def remove_old(reconciler: Reconciler) -> None:
    """Do so now, whoever else does."""
    database, settings, now = reconciler.runtime.database, reconciler.runtime.settings, now_ms()
    while await _remove_page(reconciler.runtime, now):
        pass
    while await _forget_keys(database, now):
        pass
    while await _expire_uploads(reconciler.runtime, now):
        pass
    for table, removed in ((FileRow, FileRow.removed_ms), (BatchRow, BatchRow.finished_ms)):
        oldest = now - (settings.tombstone_ttl_s + (settings.result_ttl_s if table is BatchRow else 0)) * 1000
        while await _delete_page(database, select(table.id).where(col(removed) < oldest), ((table, table.id),)):
            pass
    tombstones = select(JobRow.id).where(col(JobRow.removed_ms) < now - settings.tombstone_ttl_s * 1000)
    while await _delete_page(database, tombstones, ((JobEventRow, JobEventRow.job_id), (JobRow, JobRow.id))):
        pass
    await _remove_logs(database, await _drop_days(database, now, now - settings.request_log_ttl_s * 1000))
    for organization_id, ttl_s in await _shorter_logs(database):
        await _remove_logs(database, now - ttl_s * 1000, col(RequestLogRow.organization_id) == organization_id)
    deliveries = (WebhookAttemptRow, WebhookAttemptRow.delivery_id), (WebhookDeliveryRow, WebhookDeliveryRow.id)
    while await _delete_page(database, old_deliveries(reconciler.runtime, now), deliveries):
        pass
    own = old_own_endpoints(reconciler.runtime, now)
    while await _delete_page(database, own, ((WebhookEndpointRow, WebhookEndpointRow.id),)):
        pass
    await sweep_files(reconciler.runtime)
    await sweep_uploads(reconciler.runtime)


async def _shorter_logs(database: Database) -> Sequence[tuple[int | None, int]]:
    """Return the organizations whose logs are kept for a time of their own, in seconds."""
    own = select(OrganizationRow.id, OrganizationRow.log_ttl_s).where(col(OrganizationRow.log_ttl_s).is_not(None))
    async with database.read() as session:
        return [(number, ttl_s or 0) for number, ttl_s in (await session.exec(own)).all()]


async def _drop_days(database: Database, now: int, before_ms: int) -> int:
    """Make and drop partitions of the request log; returns the instant before which rows are removed one by one."""
    if not is_partitioned(database):
        return before_ms
    await make_partitions(database, now)
    return min(before_ms, await drop_partitions(database, before_ms))


async def _remove_logs(database: Database, before_ms: int, *conditions: Any) -> None:
    """Remove rows of the request log that are older and have ended."""
    old = (col(RequestLogRow.id) < oldest_ulid(before_ms), RequestLogRow.status != IN_PROGRESS, *conditions)
    while await _delete_page(database, select(RequestLogRow.id).where(*old), ((RequestLogRow, RequestLogRow.id),)):
        pass


async def _remove_page(runtime: Runtime, now: int) -> bool:
    """Turn some finished jobs whose time is over into tombstones; returns whether there may be more."""
    async with runtime.database.transaction() as session:
        expired = (col(JobRow.result_expires_ms) <= now, col(JobRow.removed_ms).is_(None))
        jobs = (await session.exec(select(JobRow.id, JobRow.kind).where(*expired).limit(_PAGE))).all()
        await remove_bodies(session, [job_id for job_id, _ in jobs], now, "expired")
    await runtime.files.delete_with_jobs(jobs)
    return len(jobs) == _PAGE


async def _expire_uploads(runtime: Runtime, now: int) -> bool:
    """Turn some files whose time is over into tombstones; returns whether there may be more."""
    async with runtime.database.transaction() as session:
        ids = await list_expired_files(session, now, _PAGE)
        await remove_files(session, ids, now, "expired")
    await runtime.uploads.delete(ids)
    return len(ids) == _PAGE


async def _forget_keys(database: Database, now: int) -> bool:
    """Forget some idempotency keys whose time is over; returns whether there may be more."""
    async with database.transaction() as session:
        return await delete_idempotency_keys(session, now, _PAGE) == _PAGE


async def _delete_page(database: Database, selection: Any, tables: Sequence[tuple[Any, Any]]) -> bool:
    """Delete some of the selected ids from these tables; returns whether there may be more."""
    async with database.transaction() as session:
        ids = list((await session.exec(selection.limit(_PAGE))).all())
        for table, column in tables:
            await session.exec(delete(table).where(col(column).in_(ids)))
    return len(ids) == _PAGE
