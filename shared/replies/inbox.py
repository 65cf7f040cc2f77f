"""The inbox of an api process: one Redis stream that carries the replies its callers wait for.

One blocking read serves any number of callers.  Redis may lose the inbox, or a worker may die between storing a result
and sending it; therefore the owner is told which jobs to look up in the database: all after a loss, and those that
have waited for long, now and then.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.replies.entries import Delivery, Entry, Kind, decode_deliveries, inbox_key
from shared.tasks import end_tasks, start_background
from shared.unreadable import UNREADABLE

log = structlog.get_logger()

_BLOCK_MS: Final = 1000
_COUNT: Final = 512
_PAUSE_S: Final = 0.1
_BEAT_S: Final = 1.0
_ANSWERS_WITHIN_S: Final = 1.0
"""A Redis that is silent for longer counts as away."""
_LIFETIME_S: Final = 60
_TRIM_FROM: Final = 64
_MAX_UNREAD: Final = 4096
"""Entries kept for one caller."""
_SWEEP_S: Final = 5.0
"""Every caller that has waited longer is looked up in the database this often."""

LookUp = Callable[[list[str]], Awaitable[None]]


class Waiter:
    """One caller and the entries that have come for it."""

    __slots__ = ("_wake", "entries", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.entries: deque[Entry] = deque()
        self._wake: asyncio.Future[None] | None = None

    def deliver(self, entries: list[Entry]) -> None:
        """Hand over entries."""
        if len(self.entries) < _MAX_UNREAD or entries[-1].kind is Kind.END:
            self.entries.extend(entries)  # what a slow reader misses, the stored log has
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def next(self, timeout_s: float | None = None) -> Entry | None:
        """Return the next entry; None if none came in time."""
        if not self.entries:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                if timeout_s is None:
                    await self._wake
                else:
                    await asyncio.wait({self._wake}, timeout=timeout_s)
            finally:
                self._wake = None
        return self.entries.popleft() if self.entries else None


class Inbox:
    """Receives replies for the callers of this process.

    Args:
        redis: no socket timeout below 2 s, since a read blocks for 1 s at a time.
        look_up: called with job ids whose entries may have been lost; delivers what the database knows.

    """

    def __init__(self, redis: Redis, look_up: LookUp) -> None:
        self.key = inbox_key(uuid4().hex)
        self.is_connected = False
        """Whether Redis answered the last time it was asked."""
        self._redis = redis
        self._look_up = look_up
        self._connection = Redis(connection_pool=redis.connection_pool, single_connection_client=True)
        self._waiters: dict[str, Waiter] = {}
        self._last_id = "0-0"
        self._untrimmed = 0
        """Rows read since the stream was trimmed."""
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()

    async def start(self) -> None:
        """Open the inbox; returns when it can receive, or after 2 s without Redis."""
        self._tasks = [start_background(self._repeat(step)) for step in (self._read, self._beat)]
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._ready.wait()

    @property
    def waiting(self) -> int:
        """Number of callers who wait."""
        return len(self._waiters)

    def wait_for(self, job_id: str) -> Waiter:
        """Return the waiter of a job; call `forget` when it is not needed any more."""
        waiter = self._waiters[job_id] = Waiter(asyncio.get_running_loop().time())
        return waiter

    def has_waiter(self, job_id: str) -> bool:
        """Return whether somebody still waits for this job."""
        return job_id in self._waiters

    def forget(self, job_id: str) -> None:
        """Stop waiting for a job."""
        self._waiters.pop(job_id, None)

    def deliver(self, job_id: str, entry: Entry) -> None:
        """Hand an entry to whoever waits for the job."""
        if waiter := self._waiters.get(job_id):
            waiter.deliver([entry])

    async def close(self) -> None:
        """Stop reading."""
        await end_tasks(*self._tasks)
        with suppress(RedisError, OSError):
            await self._connection.aclose()
            await self._redis.delete(self.key)

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except (RedisError, OSError) as error:
                if self.is_connected:
                    log.warning("redis_away", error=repr(error))
                self.is_connected = False
                await asyncio.sleep(_PAUSE_S)

    async def _beat(self) -> None:
        """Keep the inbox alive; if it is gone, make it again and look everybody up."""
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            exists = await self._redis.expire(self.key, _LIFETIME_S)
        was_connected, self.is_connected = self.is_connected, True
        if not exists:
            await self._redis.xadd(self.key, {"k": ""})
            await self._redis.expire(self.key, _LIFETIME_S)
        self._ready.set()
        if not exists or not was_connected:
            await self._sweep(0.0)
        else:
            await self._sweep(_SWEEP_S)
        await asyncio.sleep(_BEAT_S)

    async def _sweep(self, older_than_s: float) -> None:
        now = asyncio.get_running_loop().time()
        lost = []
        for job_id, waiter in self._waiters.items():
            if now - waiter.since >= older_than_s and not waiter.entries:
                waiter.since = now
                lost.append(job_id)
        if lost:
            await self._look_up(lost)

    async def _read(self) -> None:
        await self._ready.wait()
        found: Any = await self._connection.xread({self.key: self._last_id}, _COUNT, _BLOCK_MS)
        if not found:
            return
        rows = found[0][1]
        self._last_id = rows[-1][0].decode()
        for _, fields in rows:
            for delivery in _deliveries(fields):
                if waiter := self._waiters.get(delivery.job_id):
                    waiter.deliver(delivery.entries)
        self._untrimmed += len(rows)
        if self._untrimmed >= _TRIM_FROM:
            self._untrimmed = 0
            await self._redis.xtrim(self.key, minid=self._last_id)


def _deliveries(fields: dict[bytes, bytes]) -> list[Delivery]:
    """Return what a row carries; who waits for one that cannot be read is looked up in the database."""
    try:
        return decode_deliveries(fields[b"d"]) if b"d" in fields else []
    except UNREADABLE as error:  # of another version
        log.error("reply_unreadable", error=repr(error))  # noqa: TRY400  # one line says it all
        return []
