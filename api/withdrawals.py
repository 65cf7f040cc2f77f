"""Jobs whose callers were told 503 while it was not known whether their row was written.

Whoever gets a 503 tries again.  If the row is there after all, it is cancelled, so that nothing runs, and costs, twice;
its idempotency key is free again, and so is the job that it was to retry.  Until that is done, a note in Redis keeps
repetitions from attaching to it.
"""

import asyncio

import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.admissions import Admissions
from shared.admission.records import Admission
from shared.clock import now_ms
from shared.group_commit.units import CommitError, Statement
from shared.group_commit.writer import GroupCommit
from shared.idempotency.statements import unbind_idempotency_key
from shared.jobs.schemas import public_id
from shared.jobs.statements import forget_retry, request_cancel
from shared.tasks import end_tasks

log = structlog.get_logger()
_PAUSE_S = 0.1
_BATCH = 100
_MAX_WAITING = 10_000
_NOTED_S = 900
"""As long as repetitions look for a job."""


class Withdrawn(Struct, frozen=True, kw_only=True):
    """A job that must not run, if there is one."""

    job_id: str
    admission: Admission | None
    key_id: str | None
    """Idempotency key that is bound to it."""
    retry_of: str | None
    """The job that it is a retry of."""


class Withdrawals:
    """Cancels jobs as soon as the database answers again."""

    def __init__(self, redis: Redis, writer: GroupCommit, admissions: Admissions) -> None:
        self._redis = redis
        self._writer = writer
        self._admissions = admissions
        self._jobs: list[Withdrawn] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, job: Withdrawn) -> None:
        """Cancel this job if it exists, which its worker learns when it starts it; else give back what was admitted."""
        if len(self._jobs) < _MAX_WAITING:
            self._jobs.append(job)
        else:
            log.warning("job_not_withdrawn", job_id=public_id(job.job_id))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._cancel_all())
        try:
            await self._redis.set(_note(job.job_id), b"", ex=_NOTED_S)
        except (RedisError, OSError) as error:
            log.warning("withdrawal_not_noted", job_id=public_id(job.job_id), error=repr(error))

    async def has(self, job_id: str) -> bool:
        """Return whether the caller of this job was told that there is none; no if Redis does not say so."""
        try:
            return bool(await self._redis.exists(_note(job_id)))
        except (RedisError, OSError):
            return False

    async def close(self) -> None:
        """Give up."""
        if self._task is not None:
            await end_tasks(self._task)
        for job in self._jobs:
            log.warning("job_not_withdrawn", job_id=public_id(job.job_id))

    async def _cancel_all(self) -> None:
        try:
            while self._jobs:
                batch = self._jobs[:_BATCH]
                try:
                    results = await self._writer.execute_many(_unit(batch))
                except CommitError:
                    await asyncio.sleep(_PAUSE_S)
                    continue
                del self._jobs[: len(batch)]
                for job, result in zip(batch, results, strict=False):
                    if job.admission is not None:
                        await self._admissions.give_back(job.job_id, job.admission, is_stored=bool(result.rows))
        finally:
            self._task = None


def _unit(jobs: list[Withdrawn]) -> list[Statement]:
    """Return the statements that withdraw these jobs; the first ones return (id) of each that is there."""
    unit = [request_cancel(job.job_id, now_ms()) for job in jobs]
    unit += [unbind_idempotency_key(job.key_id, job.job_id) for job in jobs if job.key_id is not None]
    return unit + [forget_retry(job.retry_of, job.job_id) for job in jobs if job.retry_of is not None]


def _note(job_id: str) -> str:
    return f"sluice:withdrawn:{job_id}"
