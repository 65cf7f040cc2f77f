"""Record how jobs ended: outcomes of the same moment share one pipeline, a broken connection is retried."""

import asyncio
import time
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from shared.queue.lua import Outcome, QueueScripts
from shared.redis_errors import is_transient
from worker.leases import Leases

log = structlog.get_logger()

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 60.0
"""Longest time an outcome waits for Redis; after that the job is left to whoever claims it next."""


class _Waiting:
    """One outcome and the run that waits for it to be recorded."""

    __slots__ = ("outcome", "recorded")

    def __init__(self, outcome: Outcome, recorded: asyncio.Future[bool]) -> None:
        self.outcome = outcome
        self.recorded = recorded


class Outcomes:
    """The way of outcomes into Redis.

    There is no timer: while one pipeline is on its way, the next one fills.
    """

    def __init__(self, redis: Redis, scripts: QueueScripts, leases: Leases) -> None:
        self._redis = redis
        self._scripts = scripts
        self._leases = leases
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._give_up_at: float | None = None

    async def record(self, outcome: Outcome) -> bool:
        """Write one outcome; returns False if it was refused or Redis stayed away too long."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(outcome, loop.create_future())
        self._waiting.append(waiting)
        if self._writer is None:
            self._writer = loop.create_task(self._write_all())
        return await waiting.recorded

    async def wait(self) -> None:
        """Wait until no outcome is under way."""
        if self._writer is not None:
            await asyncio.wait({self._writer})

    def hurry(self, patience_s: float) -> None:
        """Give up `patience_s` from now at the latest: the process is leaving."""
        self._give_up_at = time.monotonic() + patience_s

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write(batch)
        finally:
            self._writer = None

    async def _write(self, batch: list[_Waiting]) -> None:
        pause_s, started = _FIRST_PAUSE_S, time.monotonic()
        while True:
            answers = await self._send(batch)
            batch = [waiting for waiting, answer in zip(batch, answers, strict=True) if not _settle(waiting, answer)]
            if not batch:
                return
            give_up_at = min(started + _PATIENCE_S, self._give_up_at or float("inf"))
            if time.monotonic() + pause_s > give_up_at:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        for waiting in batch:
            log.error("outcome_not_recorded_Redis_stayed_away", job_id=waiting.outcome.job_id)
            waiting.recorded.set_result(False)

    async def _send(self, batch: list[_Waiting]) -> list[Any]:
        try:
            async with self._leases.settling:
                answers = await self._pipe(batch)
                if again := [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
                    await self._scripts.load()
                    repeated = await self._pipe([batch[index] for index in again])
                    for index, answer in zip(again, repeated, strict=True):
                        answers[index] = answer
        except (RedisError, OSError) as error:
            return [error] * len(batch)
        return answers

    async def _pipe(self, batch: list[_Waiting]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for waiting in batch:
                await self._scripts.settle(waiting.outcome, pipeline)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers


def _settle(waiting: _Waiting, answer: Any) -> bool:
    """Resolve the waiting run; returns False if the outcome must be sent again.

    Sent again after a lost answer, an outcome that was recorded the first time is refused; the log says so.
    """
    if is_transient(answer):
        log.warning("outcome_will_be_sent_again", job_id=waiting.outcome.job_id, error=repr(answer))
        return False
    if isinstance(answer, Exception):
        waiting.recorded.set_exception(answer)
        return True
    if not answer:
        log.warning("lease_is_gone_outcome_refused", job_id=waiting.outcome.job_id)
    waiting.recorded.set_result(bool(answer))
    return True
