"""End the items of a batch that have not ended: by the hundred, since there may be 50,000."""

import asyncio
from typing import Final

from sqlmodel import col, select

from shared.batches.tables import BatchRow
from shared.clock import now_ms
from shared.jobs.ending import job_cancelled
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import EXPIRED, IN_PROGRESS, QUEUED
from shared.jobs.statements import request_cancel
from shared.jobs.tables import JobRow
from worker.failures import job_expired
from worker.reconciler import Reconciler
from worker.waiting_jobs import end_waiting

_PAGE: Final = 500


async def end_open_items(reconciler: Reconciler, batch: BatchRow, status: str) -> None:
    """End what waits as expired or cancelled, and have the workers stop what runs; that ends by itself."""
    error = job_expired() if status == EXPIRED else job_cancelled()
    while True:
        rows = await _read(reconciler, batch.id, QUEUED)
        if not rows:
            break
        await end_waiting(reconciler.runtime, reconciler.queue_of, rows, status, error)
    running = await _read(reconciler, batch.id, IN_PROGRESS)
    writer = reconciler.runtime.writer
    await asyncio.gather(*(writer.execute_many((request_cancel(row.id, now_ms()),)) for row in running))
    for row in running:
        await reconciler.queue.signal(row.id)


async def _read(reconciler: Reconciler, batch_id: str, status: str) -> list[JobRow]:
    of_it = (JobRow.batch_id == batch_id, col(JobRow.status) == status)
    page = select(JobRow).where(*of_it).order_by(col(JobRow.id)).limit(_PAGE).options(*LIGHT)  # as they are let in
    async with reconciler.runtime.database.read() as session:
        return list((await session.exec(page)).all())
