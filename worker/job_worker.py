"""The worker of a lane: runs `run_job` without what arq does around a job function, and other functions as arq does.

The database counts attempts and keeps results, the message came with the claim, and the kind has its own time limit;
what is left of arq's `run_job` is to start, to tell why a run was cancelled, and to report the outcome to the queue.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from arq import Retry
from typing_extensions import override

from shared.jobs.messages import JobMessage
from shared.queue.lanes import RUN_JOB, decode_message, function_of
from worker.engine import LeasedWorker
from worker.runner import CancelReason

log = structlog.get_logger()
_CRASH_PAUSE_MS: Final = 1000
JobFunction = Callable[[dict[str, Any], JobMessage | None], Awaitable[None]]


class JobWorker(LeasedWorker):
    """Runs the jobs of one lane with one function, beside cron jobs and `others`: functions as arq has them."""

    def __init__(self, function: JobFunction, *, others: Sequence[Any] = (), **options: Any) -> None:
        super().__init__([function, *others], **options)
        self._function = function
        self._has_others = len(self.functions) > 1

    @override
    async def run_job(self, job_id: str, score: int) -> None:
        """Run one claimed job and report its outcome."""
        structlog.contextvars.clear_contextvars()
        claim, task = self._leases.claim_of(job_id), asyncio.current_task()
        if claim is None or task is None:
            return
        if self._has_others and claim.payload and function_of(claim.payload) != RUN_JOB:
            await super().run_job(job_id, score)
            return
        self.job_tasks[job_id] = task
        defer_ms: int | None = None
        try:
            message = decode_message(claim.payload) if claim.payload else None
            ctx = {**self.ctx, "job_id": job_id, "cancel_reason": lambda: self._cancel_reason(job_id)}
            await self._function(ctx, message)
        except Retry as retry:
            defer_ms = 0 if self._cancel_reason(job_id) == "drain" else retry.defer_score or 1
        except asyncio.CancelledError:  # before the job function could deal with it
            task.uncancel()
            defer_ms = 0
        except Exception:  # the queue must learn of every end
            log.exception("run_failed", job_id=job_id)
            defer_ms = _CRASH_PAUSE_MS
        finally:
            self.job_tasks.pop(job_id, None)
        if defer_ms is None:
            await asyncio.shield(self._finish(job_id, None, 0.0))
        elif claim := self._leases.give_back(job_id):
            await asyncio.shield(self._record(claim, "requeue", defer_ms, claim.score, ""))

    def _cancel_reason(self, job_id: str) -> CancelReason:
        if job_id in self.aborting_tasks:
            return "abort"
        if self._leases.is_leaving(job_id):
            return "lost"
        return "drain" if not self.allow_pick_jobs else "abort"
