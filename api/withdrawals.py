"""Jobs whose callers were told 503 while it was not known whether their row was written.

Whoever gets a 503 tries again.  If the row is there after all, it is cancelled, so that nothing runs, and costs, twice.
"""

import asyncio

import structlog

from api.admissions import Admissions
from shared.admission.records import Admission
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

    def __init__(self, writer: GroupCommit, admissions: Admissions) -> None:
        self._writer = writer
        self._admissions = admissions
        self._jobs: list[tuple[str, Admission | None]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, job_id: str, admission: Admission | None) -> None:
        """Cancel this job if it exists, which its worker learns when it starts it; else give back what was admitted."""
        if len(self._jobs) < _MAX_WAITING:
            self._jobs.append((job_id, admission))
        else:
            log.warning("job_not_withdrawn", job_id=public_id(job_id))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._cancel_all())

    async def close(self) -> None:
        """Give up."""
        if self._task is not None:
            await end_tasks(self._task)
        for job_id, _ in self._jobs:
            log.warning("job_not_withdrawn", job_id=public_id(job_id))

    async def _cancel_all(self) -> None:
        try:
            while self._jobs:
                batch = self._jobs[:_BATCH]
                try:
                    results = await self._writer.execute_many([request_cancel(job_id, now_ms()) for job_id, _ in batch])
                except CommitError:
                    await asyncio.sleep(_PAUSE_S)
                    continue
                del self._jobs[: len(batch)]
                for (job_id, admission), result in zip(batch, results, strict=True):
                    if admission is not None:
                        await self._admissions.give_back(job_id, admission, is_stored=bool(result.rows))
        finally:
            self._task = None
