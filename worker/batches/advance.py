"""Move batches on, every second: enforce their window and their cancellation, and end those whose items are over.

in_progress   the window is over: what is open is ended; else nothing, until no item is open
cancelling    what is open is ended
finalizing    the files are written, then the batch is over; done anew if this process dies
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog
from msgspec import json
from sqlalchemy.exc import SQLAlchemyError

from shared.batches.events import tell_end
from shared.batches.queries import change_batch, count_items, has_open_items, list_open_batches, sum_usage
from shared.batches.schemas import CANCELLED, CANCELLING, COMPLETED, EXPIRED, FINALIZING, RUNNING
from shared.batches.tables import BatchRow
from shared.carbon.intensity import read_intensities
from shared.clock import now_ms
from shared.files.store import FileStoreError
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.statements import Delivery
from worker.batches.carbon import batch_carbon
from worker.batches.ending import end_open_items
from worker.batches.outputs import write_files
from worker.reconciler import Reconciler, alone

log = structlog.get_logger()
_AT_ONCE: Final = 4


async def advance_batches(ctx: dict[str, Any]) -> None:
    """Look at all batches of the shard that have not ended; several processes may do so at the same time."""
    reconciler: Reconciler = ctx["reconciler"]
    async with reconciler.runtime.database.read() as session:
        rows = await list_open_batches(session, reconciler.runtime.shard)
    slots = asyncio.Semaphore(_AT_ONCE)
    await asyncio.gather(*(_advance_alone(reconciler, row, slots) for row in rows))


async def _advance_alone(reconciler: Reconciler, row: BatchRow, slots: asyncio.Semaphore) -> None:
    async with slots, alone(reconciler, f"batch:{row.id}") as is_alone:
        if not is_alone:
            return
        try:
            await _advance(reconciler, row)
        except (SQLAlchemyError, FileStoreError, OSError) as error:
            log.warning("batch_waits", batch_id=row.id, error=repr(error))


async def _advance(reconciler: Reconciler, row: BatchRow) -> None:
    runtime, now = reconciler.runtime, now_ms()
    is_late = row.status == RUNNING and now >= row.expires_ms
    async with runtime.database.read() as session:
        is_open = row.total is None or await has_open_items(session, row.id)
    if is_late and is_open and row.expired_ms is None:
        row.expired_ms = now
        async with runtime.database.transaction() as session:
            await change_batch(session, row.id, (RUNNING,), expired_ms=now)
    if row.total is None:
        return  # its lines are still being read
    if is_open and (row.expired_ms is not None or row.status == CANCELLING):
        await end_open_items(reconciler, row, EXPIRED if row.expired_ms is not None else CANCELLED)
        async with runtime.database.read() as session:
            is_open = await has_open_items(session, row.id)
    if not is_open:
        await _finish(reconciler, row)


async def _finish(reconciler: Reconciler, row: BatchRow) -> None:
    """Write the files, then end the batch."""
    runtime, path = reconciler.runtime, reconciler.runtime.settings.intensity_file
    intensities = None if path is None else await read_intensities(path)
    async with runtime.database.read() as session:
        counts, usage = await count_items(session, row.id), await sum_usage(session, row.id)
        carbon = await batch_carbon(session, intensities, row)
    status = CANCELLED if row.status == CANCELLING else EXPIRED if row.expired_ms or counts.expired else COMPLETED
    if status == COMPLETED:
        async with runtime.database.transaction() as session:
            changed = await change_batch(session, row.id, (RUNNING,), status=FINALIZING, finalizing_ms=now_ms())
        if not changed and row.status != FINALIZING:
            return  # it was cancelled in this moment
    files = await write_files(runtime, row)
    now = now_ms()
    values = {
        "status": status, f"{status}_ms": now, "finished_ms": now, "is_fed": True,
        "counts": json.encode(counts).decode(), "usage": json.encode(usage).decode(),
        "baseline_ng": carbon[0], "actual_ng": carbon[1],
        "output_file_id": None if files.output is None else files.output.id,
        "error_file_id": None if files.error is None else files.error.id,
    }  # fmt: skip
    deliveries: list[Delivery] = []
    async with runtime.database.transaction() as session:
        if await change_batch(session, row.id, _BEFORE[status], **values):
            session.add_all([file for file in (files.output, files.error) if file is not None])
            deliveries = await tell_end(session, row, status, now)
    enqueue_deliveries(runtime.deliveries, deliveries)
    log.info("batch_ended", batch_id=row.id, status=status, completed=counts.completed, failed=counts.unsuccessful)


_BEFORE: Final[dict[str, Sequence[str]]] = {
    COMPLETED: (FINALIZING,), EXPIRED: (RUNNING,), CANCELLED: (CANCELLING,),
}  # fmt: skip
