"""Follow reply streams: all followers of the process share one blocking XREAD on one connection.

The XREAD names every stream somebody follows.  A new follower has to get into a wait that is under way; an entry in
the control stream of this process, which is always among the streams, ends that wait.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.replies.entries import (
    START,
    Entry,
    Kind,
    Position,
    ReplyLostError,
    decode_entries,
    id_of,
    is_next,
    reply_key,
)
from shared.tasks import end_tasks, start_background

log = structlog.get_logger()

_BLOCK_MS: Final = 1000
_COUNT: Final = 256
"""Most rows per stream and read."""
_PAUSE_S: Final = 0.1
_CONTROL_LIFETIME_S: Final = 3600


class _Follower:
    """One caller that follows one reply."""

    def __init__(self, after: Position) -> None:
        self.last = after
        self.entries: asyncio.Queue[Entry] = asyncio.Queue()

    def deliver(self, entry: Entry) -> None:
        """Hand over the entry unless the follower has it."""
        if entry.position > self.last:
            self.last = entry.position
            self.entries.put_nowait(entry)


class _Channel:
    """One stream, read from `position` on for all its followers."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.followers: set[_Follower] = set()


class ReplyReader:
    """Follows reply streams for one api process.

    `redis` must not have a socket timeout below 2 s, since a read blocks for 1 s at a time.
    """

    def __init__(self, redis: Redis, *, idle_s: float = 1.0) -> None:
        self._redis = redis
        self._idle_s = idle_s
        self._connection = Redis(connection_pool=redis.connection_pool, single_connection_client=True)
        self._channels: dict[str, _Channel] = {}
        self._control = f"sluice:reply-control:{uuid4().hex}"
        self._control_id = "0-0"
        self._is_poked = False
        self._followed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, job_id: str, after: Position = START) -> AsyncIterator[Entry | None]:
        """Yield the entries of a reply in order, from its start or behind `after`, the END as the last one.

        None is yielded whenever nothing has come for `idle_s`.

        Raises:
            ReplyLostError: entries are missing; the stored log has them once the job is over.

        """
        key, last = reply_key(job_id), after
        follower = await self._join(key, last)
        try:
            while True:
                entry = await self._next(follower)
                if entry is None:
                    yield None
                    continue
                if not is_next(last, entry.position):
                    raise ReplyLostError(f"{job_id}: nothing between {id_of(last)} and {entry.id}")
                last = entry.position
                yield entry
                if entry.kind is Kind.END:
                    return
        finally:
            self._leave(key, follower)

    async def read(self, job_id: str) -> list[Entry]:
        """Return the entries there are at this moment, without the END; raises Redis errors."""
        rows = await self._redis.xrange(reply_key(job_id))
        entries = [entry for _, fields in rows for entry in decode_entries(fields[b"d"])]
        return [entry for entry in entries if entry.kind is not Kind.END]

    async def close(self) -> None:
        """Stop reading; whoever still follows gets nothing more."""
        if self._task is not None:
            await end_tasks(self._task)
        with suppress(RedisError, OSError):
            await self._connection.aclose()
            await self._redis.delete(self._control)

    async def _next(self, follower: _Follower) -> Entry | None:
        try:
            async with asyncio.timeout(self._idle_s):
                return await follower.entries.get()
        except TimeoutError:
            return None

    async def _join(self, key: str, after: Position) -> _Follower:
        follower = _Follower(after)
        channel = self._channels.setdefault(key, _Channel(after))
        channel.position = min(channel.position, after)  # the others skip what they have
        channel.followers.add(follower)
        self._followed.set()
        if self._task is None:
            self._task = start_background(self._read_all())
        else:
            await self._poke()
        return follower

    def _leave(self, key: str, follower: _Follower) -> None:
        channel = self._channels[key]
        channel.followers.discard(follower)
        if not channel.followers:
            del self._channels[key]

    async def _poke(self) -> None:
        """End the wait under way; one poke is enough for all that join before the next one."""
        if self._is_poked:
            return
        self._is_poked = True
        with suppress(RedisError, OSError):  # the wait ends by itself within a second
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.xadd(self._control, {"": ""}, maxlen=1, approximate=False)
                pipeline.expire(self._control, _CONTROL_LIFETIME_S)
                await pipeline.execute()

    async def _read_all(self) -> None:
        while True:
            if not self._channels:
                self._followed.clear()
                await self._followed.wait()
            try:
                await self._read()
            except (RedisError, OSError) as error:
                log.warning("redis_away", error=repr(error))
                await asyncio.sleep(_PAUSE_S)

    async def _read(self) -> None:
        """Wait for entries of any followed stream and hand them over."""
        self._is_poked = False  # who joins from here on is not part of this read
        positions = {key: channel.position for key, channel in self._channels.items()}
        ids: dict[Any, Any] = {key: id_of(position) for key, position in positions.items()}
        found = await self._connection.xread(ids | {self._control: self._control_id}, _COUNT, _BLOCK_MS)
        for name, rows in found or ():
            key = name.decode()
            if key == self._control:
                self._control_id = rows[-1][0].decode()
            elif key in self._channels:
                self._deliver(self._channels[key], positions[key], rows)

    def _deliver(self, channel: _Channel, position: Position, rows: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Hand over what was read behind `position`; who joined further back meanwhile waits for the next read."""
        followers = [follower for follower in channel.followers if follower.last >= position]
        last = position
        for _, fields in rows:
            for entry in decode_entries(fields[b"d"]):
                last = entry.position
                for follower in followers:
                    follower.deliver(entry)
        if channel.position == position:
            channel.position = last
