"""arq's worker with leases: woken instead of polling, fenced, fair, and not killed by Redis errors.

`run_job` (time limits, tries, context, hooks, serialisation), cron, health and signals stay arq's.  Overridden are
the seams where arq talks to the queue; `tests/worker/test_arq_compatibility.py` fails if a new arq changes one of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from arq import ArqRedis, Worker
from arq.constants import abort_job_max_age, abort_jobs_ss
from arq.utils import timestamp_ms, to_ms
from redis.exceptions import RedisError
from typing_extensions import override

from shared.queue.jobs import Claim
from shared.queue.keys import BANDS, control_channel
from shared.queue.lua import Outcome, QueueScripts, Wanted
from shared.tasks import end_tasks
from worker.control import hear_aborts
from worker.leases import Leases, new_token
from worker.outcomes import Outcomes

log = structlog.get_logger()

DEFAULT_WEIGHTS: Final = (8, 4, 1)
DEFAULT_SHARE: Final = 3.0
"""One group alone gets three quarters of all slots."""
_CAN_WAIT: Final = 0.75
"""Most of its slots that a worker gives to bands below the first."""
_IDLE_S: Final = 0.5
"""Longest wait between two claims: the delay of a job from a stock arq producer, which rings no bell."""
_BEAT_S: Final = 0.5
_SHORTEST_WAIT_S: Final = 0.001
_BATCH_S: Final = 0.001
_REDIS_PAUSE_S: Final = 0.2
_LAST_RUN_ENDS_MS: Final = 50


class LeasedWorker(Worker):
    """A worker of one queue.

    Args:
        functions: what it can run, as for arq.
        redis_pool: its Redis; no socket timeout below 2 s, since it blocks for 1 s at a time.
        token: identity of this process; a supervisor passes it, to release the leases if the process dies.
        lease_s: a job runs elsewhere this long after its worker fell silent; renewed at a third of it.  Must exceed
            the longest time a job blocks the event loop.
        weights: jobs per round of each band, see `Wanted`; every one at least 1, so that nothing starves.
        share: how groups share the slots, see `Wanted`; 0 is no limit.
        cap: most jobs of one group at once, see `Wanted`; 0 is no limit.
        options: further options of arq's worker.  `job_completion_wait` (30 s here) is the drain after SIGTERM.

    """

    def __init__(  # noqa: PLR0913  # what lanes differ in
        self,
        functions: Sequence[Any] = (),
        *,
        redis_pool: ArqRedis,
        token: str | None = None,
        lease_s: float = 3.0,
        weights: tuple[int, ...] = DEFAULT_WEIGHTS,
        share: float = DEFAULT_SHARE,
        cap: int = 0,
        **options: Any,
    ) -> None:
        if len(weights) != BANDS or min(weights) < 1:
            raise ValueError(f"weights {weights} are not {BANDS} numbers of at least 1")
        options = {"job_completion_wait": 30, "allow_abort_jobs": True} | options
        options["queue_name"] = redis_pool.default_queue_name
        options["job_serializer"] = redis_pool.job_serializer
        options["job_deserializer"] = redis_pool.job_deserializer
        super().__init__(functions, redis_pool=redis_pool, poll_delay=0, **options)
        self._scripts = QueueScripts(redis_pool, self.queue_name)
        self._leases = Leases(self._scripts, token=token or new_token(), lease_s=lease_s)
        self._weights = weights
        self._share = share
        self._cap = cap
        self._can_wait: set[str] = set()
        """Running jobs of bands below the first."""
        self._outcomes = Outcomes(redis_pool, self._scripts, self._leases)
        self._background: list[asyncio.Task[None]] = []
        self._next_beat = 0.0
        self._next_renewal = 0.0
        self._wait_s = 0.0
        """How long the next claim may wait for the bell."""
        self._has_more = False
        """Whether jobs are ready that this worker could not take."""
        self._has_changed = asyncio.Event()
        self._ringing: asyncio.Task[None] | None = None

    # -- the loop -----------------------------------------------------------------------------------------------

    @override
    async def main(self) -> None:
        """Work as arq does; a Redis that does not answer its first question is waited for."""
        while True:
            try:
                return await super().main()
            except (RedisError, OSError) as error:
                if self._background:  # it had begun to work, where each step waits for Redis itself
                    raise
                log.warning("redis_away", error=repr(error))
                await asyncio.sleep(_REDIS_PAUSE_S)

    @override
    async def _poll_iteration(self) -> None:
        """Claim: at once if there is a reason to, else at the bell or when the next job is due."""
        self._start_background()
        try:
            await self._beat()
            if self._free_slots() > 0 and self._leases.epoch:  # without it a loss of data looks like a lost lease
                await self._claim()
                return
        except (RedisError, OSError) as error:
            log.warning("redis_away", error=repr(error))
            await asyncio.sleep(_REDIS_PAUSE_S)
            self._wait_s = 0.0
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await self._has_changed.wait()
        self._has_changed.clear()
        if self._free_slots() < self.max_jobs // 4:
            await asyncio.sleep(_BATCH_S)  # a deep backlog: let some more slots free up, and claim for all of them

    async def _beat(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + _BEAT_S
        await self._cancel_aborted_jobs()
        await self.heart_beat()

    def _free_slots(self) -> int:
        free = self.max_jobs - self.job_counter
        if self.burst and self.max_burst_jobs >= 0:
            free = min(free, self.max_burst_jobs - self._jobs_started())
        return free if self.allow_pick_jobs else 0

    async def _claim(self) -> None:
        wanted = Wanted(
            jobs=self._free_slots(),
            can_wait=max(int(self.max_jobs * _CAN_WAIT), 1) - len(self._can_wait),
            slots=self.max_jobs,
            share=self._share,
            cap=self._cap,
            weights=self._weights,
        )
        leases = self._leases
        answer = await self._scripts.claim(leases.token, leases.lease_ms, wanted, wait_s=self._wait_s)
        self._has_more = answer.has_more
        has_freed = self._free_slots() > wanted.jobs  # while the call waited
        is_full = len(answer.claims) == wanted.jobs
        self._wait_s = max(_SHORTEST_WAIT_S, min(answer.idle_s, _IDLE_S))
        if is_full or (has_freed and answer.has_more):
            self._wait_s = 0.0
        for claim in answer.claims:
            if self.allow_pick_jobs:
                await self._start(claim)
            else:  # the drain began while this call waited
                await self._record(claim, "requeue", 0, claim.score, "")

    async def _start(self, claim: Claim) -> None:
        if claim.job_id in self._leases:
            # It runs here already: Redis lost the lease, or this process stalled, and the claim has renewed it.
            # Unless that run is on its way out; then the job comes back when it has ended.
            if self._leases.is_leaving(claim.job_id):
                await self._record(claim, "requeue", _LAST_RUN_ENDS_MS, claim.score, "")
            return
        await self.sem.acquire()
        self.job_counter += 1
        self._leases.hold(claim)
        if claim.can_wait:
            self._can_wait.add(claim.job_id)
        run = self.loop.create_task(self.run_job(claim.job_id, claim.run_score))
        self.tasks[claim.job_id] = run
        run.add_done_callback(lambda run: self._ended(claim.job_id, run))

    def _ended(self, job_id: str, run: asyncio.Task[None]) -> None:
        self.tasks.pop(job_id, None)
        self._leases.drop(job_id)
        self._can_wait.discard(job_id)
        self.aborting_tasks.discard(job_id)
        self._release_sem_dec_counter_on_complete()
        self._has_changed.set()
        if self._has_more and self._ringing is None:  # the claim that waits for the bell can take some of them now
            self._ringing = self.loop.create_task(self._ring())
        if not run.cancelled() and (error := run.exception()):
            log.error("run_broke_off_it_runs_again_when_its_lease_expires", job_id=job_id, error=repr(error))

    async def _ring(self) -> None:
        with suppress(RedisError, OSError):
            await self._scripts.ring()
        self._ringing = None

    # -- background ---------------------------------------------------------------------------------------------

    def _start_background(self) -> None:
        """Start the background tasks once; afterwards, fail loudly if one of them broke."""
        if not self._background:
            steps = (self._renew, self._hear_aborts)
            self._background = [self.loop.create_task(self._repeat(step)) for step in steps]
        for task in self._background:
            if task.done() and not task.cancelled():
                task.result()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except (RedisError, OSError) as error:
                log.warning("redis_away", error=repr(error))
                await asyncio.sleep(_REDIS_PAUSE_S)

    async def _renew(self) -> None:
        await asyncio.sleep(self._next_renewal - time.monotonic())
        for job_id in await self._leases.renew(self.max_jobs if self.allow_pick_jobs else 0):
            log.warning("lease_lost_run_cancelled", job_id=job_id)
            if not self._cancel(job_id):
                self.tasks[job_id].cancel()  # arq has not come to the job itself
        if not self._next_renewal:
            self._has_changed.set()  # the epoch is known: the first claim may be made
        self._next_renewal = time.monotonic() + self._leases.lease_ms / 3000

    async def _hear_aborts(self) -> None:
        await hear_aborts(self.pool, control_channel(self.queue_name), self._abort)

    def _cancel(self, job_id: str) -> bool:
        task = self.job_tasks.get(job_id)
        return task is not None and task.cancel()

    def _abort(self, job_id: str) -> None:
        if job_id not in self.aborting_tasks and self._cancel(job_id):
            self.aborting_tasks.add(job_id)

    # -- arq's seams --------------------------------------------------------------------------------------------

    @override
    async def _cancel_aborted_jobs(self) -> None:
        """Abort what stock `Job.abort` marked, and drop old marks of jobs that are gone (arq never does)."""
        marks = await self.pool.zrange(abort_jobs_ss, 0, -1, withscores=True)
        if not marks:
            return
        oldest = timestamp_ms() - abort_job_max_age * 1000
        old = [job_id for job_id, marked_at in marks if marked_at < oldest]
        async with self.pool.pipeline(transaction=False) as pipeline:
            for job_id in old:
                pipeline.zscore(self.queue_name, job_id)
            scores = await pipeline.execute()
        stale = [job_id for job_id, score in zip(old, scores, strict=True) if score is None]
        if stale:
            await self.pool.zrem(abort_jobs_ss, *stale)
        for job_id, _ in marks:
            self._abort(job_id.decode())

    @override
    async def finish_job(
        self,
        job_id: str,
        finish: bool,
        result_data: bytes | None,
        result_timeout_s: float | None,
        keep_result_forever: bool,
        incr_score: int | None,
        keep_in_progress: float | None,
    ) -> None:
        """Record an outcome, or give the job back: after `Retry`, or because this worker is leaving."""
        if finish:
            lifetime_s = None if keep_result_forever else result_timeout_s
            await self._finish(job_id, result_data, lifetime_s, keep_in_progress)
        elif claim := self._leases.give_back(job_id):
            # arq counts from the score it was told; a try that a leaving worker cuts short does not count
            defer_ms = 0 if incr_score is None else max(0, claim.run_score + incr_score - timestamp_ms())
            refund = "1" if incr_score is None and not self.allow_pick_jobs else ""
            await self._record(claim, "requeue", defer_ms, claim.score, refund)
        else:
            log.warning("lease_was_lost_it_runs_elsewhere", job_id=job_id)

    @override
    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        """Record a job that could not be run: expired, unknown, out of tries, or aborted before its start."""
        keep = self.keep_result_forever or self.keep_result_s > 0
        await self._finish(
            job_id, result_data if keep else None, None if self.keep_result_forever else self.keep_result_s
        )

    async def _finish(
        self, job_id: str, result: bytes | None, lifetime_s: float | None, tombstone_s: float | None = None
    ) -> None:
        if claim := self._leases.finish(job_id):
            lifetime_ms = "" if lifetime_s is None else to_ms(lifetime_s)
            tombstone_ms = "" if tombstone_s is None else to_ms(tombstone_s)
            await self._record(claim, "finish", result or b"", lifetime_ms, tombstone_ms)
        else:
            log.warning("lease_was_lost_outcome_dropped", job_id=job_id)

    async def _record(self, claim: Claim, script: str, *arguments: str | bytes | int) -> None:
        token, epoch = self._leases.token, self._leases.epoch
        outcome = Outcome(job_id=claim.job_id, token=token, epoch=epoch, script=script, arguments=arguments)
        await self._outcomes.record(outcome)

    async def drain(self) -> None:
        """Take no more jobs, let the running ones end for `job_completion_wait`, then close."""
        self.allow_pick_jobs = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._job_completion_wait):
                while self.tasks:
                    await asyncio.wait(list(self.tasks.values()))
        await self.close()

    @override
    async def close(self) -> None:
        """Give back what still runs, stop the background tasks, then close as arq does."""
        self.allow_pick_jobs = False
        if self.main_task is not None:
            await end_tasks(self.main_task)  # what it has claimed but not started is released below
        self._outcomes.hurry(self._leases.lease_ms / 1000)
        for run in self.tasks.values():
            if not run.cancelling():  # arq cancels after the drain; twice would tear a run from its outcome
                run.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self._outcomes.wait()
        await end_tasks(*self._background, *([self._ringing] if self._ringing else []))
        with suppress(RedisError, OSError):
            await self._scripts.release(self._leases.token, self._leases.lease_ms)
            await self._scripts.ring()  # in case the bell was for this worker
        try:
            await super().close()
        except (RedisError, OSError) as error:
            log.warning("redis_away", error=repr(error))
            if self.on_shutdown:  # arq had not come to it
                await self.on_shutdown(self.ctx)
