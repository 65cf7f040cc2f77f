"""Put jobs into a lane, end them, look at it.  Used by the api, the reconciler and the supervisor."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from arq import ArqRedis
from arq.jobs import deserialize_job_raw, serialize_job
from redis.exceptions import NoScriptError

from shared.clock import now_ms
from shared.queue.jobs import Aborted, Enqueued, NewJob, QueueStats
from shared.queue.keys import (
    BAND_WIDTH,
    BANDS,
    DUE_FROM,
    HEAD_START,
    MAX_HEAD_START,
    PARKED_FROM,
    caps_key,
    control_channel,
)
from shared.queue.lua import QueueScripts

log = structlog.get_logger()

PAYLOAD_LIFETIME_MS = 14 * 24 * 3600 * 1000
"""A job that waits longer is run from its row; `ensure` restores a missing payload."""
MAX_PIPELINE = 500
MAX_WAITING = 10_000
Arguments = list[str | bytes | int | float]
"""Of the script `enqueue`."""


class JobQueue:
    """One lane, shared with stock arq: either side sees the jobs of the other."""

    def __init__(self, redis: ArqRedis) -> None:
        self.name = redis.default_queue_name
        self._redis = redis
        self._scripts = QueueScripts(redis, self.name)
        self._waiting: list[tuple[Arguments, asyncio.Future[Enqueued]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Put one job into the lane; safe to repeat.  Raises Redis errors, and `ValueError` for a band or cost.

        Calls of the same moment share one round trip, without a timer: while one is under way, the next one fills.
        """
        return await self._add(job)

    def put(self, job: NewJob) -> None:
        """Put one job into the lane soon; whatever does not arrive is left to the reconciler."""
        if len(self._waiting) < MAX_WAITING:
            self._add(job).add_done_callback(lambda answer: _log_failure(job.job_id, answer))
        else:
            log.warning("job_queued_later", job_id=job.job_id, error="Redis does not keep up")

    def _add(self, job: NewJob) -> "asyncio.Future[Enqueued]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Enqueued] = loop.create_future()
        self._waiting.append((self._arguments(job), answer))
        if self._writer is None:
            self._writer = loop.create_task(self._write_all())
        return answer

    async def close(self) -> None:
        """Wait until nothing is under way."""
        if self._writer is not None:
            await asyncio.wait({self._writer})

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_PIPELINE], self._waiting[MAX_PIPELINE:]
                await self._write(batch)
        finally:
            self._writer = None

    async def _write(self, batch: list[tuple[Arguments, asyncio.Future[Enqueued]]]) -> None:
        try:
            answers = await self._ensure([arguments for arguments, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must learn of it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def ensure(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Put many jobs into the lane in one round trip; answers in their order.

        Safe to repeat, which makes it the repair after any loss of data: call it with every job the database holds
        as not finished.  A job that waits or runs is left alone, a lost payload is restored.  After a loss of data
        wait for one renewal first (a third of the lease), so that the workers have taken back what they run.
        """
        return await self._ensure([self._arguments(job) for job in jobs])

    async def _ensure(self, jobs: Sequence[Arguments]) -> list[Enqueued]:
        if len(jobs) == 1:
            return [Enqueued((await self._scripts.enqueue(jobs[0])).decode())]
        answers = await self._send(jobs)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._scripts.load()
            answers = await self._send(jobs)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return [Enqueued(answer.decode()) for answer in answers]

    async def _send(self, jobs: Sequence[Arguments]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for arguments in jobs:
                await self._scripts.enqueue(arguments, pipeline)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def missing(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of the ids that are not in the lane, in one round trip."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.zscore(self.name, job_id)
            scores = await pipeline.execute()
        return [job_id for job_id, score in zip(job_ids, scores, strict=True) if score is None]

    async def abort(self, job_id: str) -> Aborted:
        """Remove a waiting job, or have its worker cancel it."""
        return Aborted((await self._scripts.abort(job_id, b"", 0)).decode())

    async def signal(self, job_id: str) -> None:
        """Have the worker of a running job cancel it; nothing else, whoever has it now."""
        await self._redis.publish(control_channel(self.name), job_id)

    async def release(self, token: str, *, lease_s: float) -> int:
        """Make the jobs of a dead worker due now; returns their number."""
        return await self._scripts.release(token, int(lease_s * 1000))

    async def set_caps(self, caps: Mapping[str, int]) -> None:
        """Say how many jobs of these groups may run at once; other groups have that of their lane, see `Wanted`."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(caps_key(self.name))
            if caps:
                pipeline.hset(caps_key(self.name), mapping=dict(caps))
            await pipeline.execute()

    async def position(self, job_id: str, band: int) -> int | None:
        """Return the place of a waiting job within its band, from 1; None if it is not ready to start."""
        found = await self._redis.zscore(self.name, job_id)
        if found is None:
            return None
        score = found - PARKED_FROM if found >= PARKED_FROM else found
        low = band * BAND_WIDTH
        if not low <= score < low + BAND_WIDTH:
            return None
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zcount(self.name, low, f"({score}")
            pipeline.zcount(self.name, PARKED_FROM + low, f"({PARKED_FROM + score}")
            ready, parked = await pipeline.execute()
        return int(ready) + int(parked) + 1

    async def depth(self) -> int:
        """Return the number of jobs that wait or run."""
        return int(await self._redis.zcard(self.name))

    async def stats(self) -> QueueStats:
        """Return depth and age of the lane; constant cost, however deep it is."""
        seconds, microseconds = await self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        bands = [(band * BAND_WIDTH, (band + 1) * BAND_WIDTH) for band in range(BANDS)]
        parked_bands = [(PARKED_FROM + low, PARKED_FROM + high) for low, high in bands]
        async with self._redis.pipeline(transaction=True) as pipeline:
            for low, high in (*bands, *parked_bands, (DUE_FROM, now + 1)):
                pipeline.zcount(self.name, low, f"({high}")
                pipeline.zrangebyscore(self.name, low, f"({high}", start=0, num=1, withscores=True)
            pipeline.zcount(self.name, f"({now}", f"({PARKED_FROM}")
            *found, held = await pipeline.execute()
        counts, heads = found[::2], found[1::2]
        waits_s = await self._waits_s(heads[:-1], now)
        return QueueStats(
            ready=tuple(counts[:BANDS]),
            parked=tuple(counts[BANDS:-1]),
            due=counts[-1],
            held=held,
            oldest_s=tuple(map(max, waits_s[:BANDS], waits_s[BANDS:])),
            oldest_due_s=(now - heads[-1][0][1]) / 1000 if heads[-1] else 0.0,
        )

    async def _waits_s(self, heads: Sequence[Sequence[tuple[bytes, float]]], now: int) -> list[float]:
        """Return how long the first job of each zone has been in the lane; 0 where there is none."""
        ids = [head[0][0].decode() if head else "" for head in heads]
        payloads = await self._redis.mget([f"arq:job:{job_id}" for job_id in ids])
        decode = self._redis.job_deserializer
        enqueued = [deserialize_job_raw(one, deserializer=decode)[4] if one else now for one in payloads]
        return [max(0.0, (now - one) / 1000) for one in enqueued]

    def _arguments(self, job: NewJob) -> Arguments:
        if not 0 <= job.band < BANDS:
            raise ValueError(f"band {job.band} is not in 0..{BANDS - 1}")
        if job.cost <= 0:
            raise ValueError(f"cost {job.cost} is not positive")
        now = now_ms()
        payload = serialize_job(job.function, job.args, {}, None, now, serializer=self._redis.job_serializer)
        lifetime_ms = max(job.due_ms - now, 0) + PAYLOAD_LIFETIME_MS
        head_start = min(job.priority * HEAD_START, MAX_HEAD_START)
        return [job.job_id, payload, lifetime_ms, job.due_ms, job.band, job.tenant, job.cost, job.group, head_start]


def _log_failure(job_id: str, answer: "asyncio.Future[Enqueued]") -> None:
    if not answer.cancelled() and (error := answer.exception()):
        log.warning("job_queued_later", job_id=job_id, error=repr(error))
