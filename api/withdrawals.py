"""Jobs whose callers were told 503 while it was not known whether their row was written.

Whoever gets a 503 tries again.  If the row is there after all, it is cancelled, so that nothing runs, and costs, twice.
"""

import asyncio

import structlog

from shared.clock import now_ms
from shared.group_commit.units import CommitError
from shared.group_commit.writer import GroupCommit
from shared.jobs.schemas import public_id
from shared.jobs.statements import request_cancel
from shared.tasks import end_tasks

log = structlog.get_logger()
_PAUSE_S = 0.1
_BATCH = 100
_MAX_WAITING = 10_000


class Withdrawals:
    """Cancels jobs as soon as the database answers again."""

    def __init__(self, writer: GroupCommit) -> None:
        self._writer = writer
        self._job_ids: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, job_id: str) -> None:
        """Cancel this job if it exists; its worker finds the request when it starts it."""
        if len(self._job_ids) < _MAX_WAITING:
            self._job_ids.append(job_id)
        else:
            log.warning("job_not_withdrawn", job_id=public_id(job_id))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._cancel_all())

    async def close(self) -> None:
        """Give up."""
        if self._task is not None:
            await end_tasks(self._task)
        for job_id in self._job_ids:
            log.warning("job_not_withdrawn", job_id=public_id(job_id))

    async def _cancel_all(self) -> None:
        try:
            while self._job_ids:
                batch = self._job_ids[:_BATCH]
                try:
                    await self._writer.execute_many([request_cancel(job_id, now_ms()) for job_id in batch])
                    del self._job_ids[: len(batch)]
                except CommitError:
                    await asyncio.sleep(_PAUSE_S)
        finally:
            self._task = None
