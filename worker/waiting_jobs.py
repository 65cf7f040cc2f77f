"""End many jobs that have not begun, without looking at each of them alone."""

import asyncio
from collections.abc import Callable, Sequence

from shared.errors import StoredError
from shared.jobs.ending import JobEnd
from shared.jobs.messages import message_of
from shared.jobs.tables import JobRow
from shared.queue.job_queue import JobQueue
from shared.usage.schemas import zero_usage
from worker.context import Runtime
from worker.settle import finish


async def end_waiting(
    runtime: Runtime, queue_of: Callable[[str], JobQueue], rows: Sequence[JobRow], status: str, error: StoredError
) -> None:
    """End queued jobs nobody waits for; one that has begun meanwhile is left alone.  They share commits."""
    await asyncio.gather(*(_end(runtime, row, status, error) for row in rows))
    await asyncio.gather(*(queue_of(row.kind).abort(row.id) for row in rows if not row.held))


async def _end(runtime: Runtime, row: JobRow, status: str, error: StoredError) -> None:
    message = message_of(row)
    end = JobEnd(status=status, usage=zero_usage(requests=row.attempt), charge_micros=0, error=error)
    await finish(runtime, message, row.attempt, end, None)
