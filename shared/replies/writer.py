"""Write replies: every reply of the process goes through one pipeline, which fills while the previous one is away."""

import asyncio
from collections import deque
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from shared.redis_errors import TRANSIENT
from shared.replies.entries import (
    LIFETIME_S,
    RETENTION_S,
    Ending,
    Entry,
    Kind,
    ReplySupersededError,
    encode_ending,
    order,
    reply_key,
)

log = structlog.get_logger()

_MAX_BATCH: Final = 1000
_MAX_WAITING: Final = 20_000
"""Entries; above, `push` waits: Redis is slower than the models."""
_PAUSE_S: Final = 0.1


class Reply:
    """The reply of one attempt of one job."""

    def __init__(self, writer: "ReplyWriter", job_id: str, attempt: int, inbox: str | None, *, is_stream: bool) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.inbox = inbox
        self.error: Exception | None = None
        self.entries: list[Entry] = []
        """All written so far, but the END: the log of the reply.  Empty unless it is a stream."""
        self._writer = writer
        self._is_stream = is_stream
        self._seq = 0

    def start(self) -> None:
        """Say that the attempt has begun."""
        if self._is_stream:
            self._log(Kind.STARTED, b"")
        self._seq = max(self._seq, 1)

    def prepare(self, data: bytes) -> Entry:
        """Take one chunk into the log without sending it; `send` follows once the log is stored."""
        return self._take(Kind.CHUNK, data)

    def send(self, entry: Entry) -> None:
        """Send an entry taken before; returns before it is written."""
        self._add(entry)

    async def push(self, data: bytes) -> None:
        """Add one chunk; returns before it is written.

        Raises `ReplySupersededError` once an earlier chunk was refused: another attempt runs, stop this one.
        """
        self._log(Kind.CHUNK, data)
        if not self._writer.has_room:
            await self._writer.wait_for_room()

    def retry(self, data: bytes) -> None:
        """Say that the attempt has failed and another one is planned; `data` is a lifecycle frame."""
        if self._is_stream:
            self._log(Kind.RETRY, data)

    def repeat(self, entry: Entry) -> None:
        """Send an entry of the stored log again; readers that have it skip it."""
        self._seq = order(entry.id)[1] + 1
        self._add(entry)

    async def end(self, ending: Ending) -> None:
        """Say how the job ended and wait until all of the reply is written; without a reader nothing is written."""
        if self.error is not None:
            raise self.error
        waits = []
        if self._is_stream:
            data = encode_ending(ending, with_body=False)
            waits.append(self._writer.add(self, reply_key(self.job_id), Entry(self._next_id(), Kind.END, data)))
        if self.inbox is not None:
            data = encode_ending(ending, with_body=not self._is_stream or ending.http_status >= 400)
            waits.append(self._writer.add(self, self.inbox, Entry(self._next_id(), Kind.END, data)))
        for waiting in waits:
            await waiting.written.wait()
        if self.error is not None:
            raise self.error

    def _next_id(self) -> str:
        return f"{self.attempt}-{self._seq}"

    def _log(self, kind: Kind, data: bytes) -> None:
        self._add(self._take(kind, data))

    def _take(self, kind: Kind, data: bytes) -> Entry:
        entry = Entry(self._next_id(), kind, data)
        self._seq += 1
        self.entries.append(entry)
        return entry

    def _add(self, entry: Entry) -> None:
        if self.error is not None:
            raise self.error
        self._writer.add(self, reply_key(self.job_id), entry)
        if self.inbox is not None:
            self._writer.add(self, self.inbox, entry)


class _Waiting:
    """One entry on its way to one key."""

    __slots__ = ("entry", "key", "reply", "written")

    def __init__(self, reply: Reply, key: str, entry: Entry) -> None:
        self.reply = reply
        self.entry = entry
        self.key = key
        self.written = asyncio.Event()
        """Also set when the entry was refused; then the reply has an error."""

    @property
    def is_for_inbox(self) -> bool:
        return self.key == self.reply.inbox


class ReplyWriter:
    """Writes the replies of one worker process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: deque[_Waiting] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Return whether `push` need not wait."""
        return self._room.is_set()

    def open(self, job_id: str, *, attempt: int, inbox: str | None, is_stream: bool) -> Reply:
        """Return the reply of this attempt, which is at least 1."""
        return Reply(self, job_id, attempt, inbox, is_stream=is_stream)

    async def read_before(self, job_id: str, attempt: int) -> list[Entry]:
        """Return what earlier attempts wrote, as far as Redis still has it."""
        try:
            rows = await self._redis.xrange(reply_key(job_id), max=f"({attempt}-0")
        except (RedisError, OSError) as error:
            log.warning("earlier_frames_lost", job_id=job_id, error=repr(error))
            return []
        return [Entry(entry_id.decode(), Kind(fields[b"k"].decode()), fields[b"d"]) for entry_id, fields in rows]

    def add(self, reply: Reply, key: str, entry: Entry) -> _Waiting:
        """Queue one entry; called by `Reply`."""
        waiting = _Waiting(reply, key, entry)
        self._waiting.append(waiting)
        if len(self._waiting) >= _MAX_WAITING:
            self._room.clear()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_all())
        return waiting

    async def wait_for_room(self) -> None:
        """Wait while too much is queued."""
        await self._room.wait()

    async def close(self) -> None:
        """Wait until nothing is under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                size = min(len(self._waiting), _MAX_BATCH)
                batch = [self._waiting.popleft() for _ in range(size)]
                self._room.set()
                await self._write(batch)
        finally:
            self._task = None

    async def _write(self, batch: list[_Waiting]) -> None:
        """Write the batch; entries that may not have arrived are sent again, which their ids make harmless."""
        while batch:
            answers = await self._send(batch)
            pairs = zip(batch, answers, strict=True)
            batch = [waiting for waiting, answer in pairs if not await self._settle(waiting, answer)]
            if batch:
                log.warning("reply_entries_delayed", entries=len(batch))
                await asyncio.sleep(_PAUSE_S)

    async def _send(self, batch: list[_Waiting]) -> list[Any]:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for waiting in batch:
                    _queue_entry(pipeline, waiting)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            return [error] * len(batch)
        await self._expire(batch, answers)
        return answers

    async def _expire(self, batch: list[_Waiting], answers: list[Any]) -> None:
        """Say how long the streams live that start or end here, if the entry was accepted: a zombie has no say."""
        accepted = [w for w, answer in zip(batch, answers, strict=True) if not isinstance(answer, Exception)]
        if lifetimes := _lifetimes(accepted):
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for key, lifetime_s in lifetimes.items():
                        pipeline.expire(key, lifetime_s)
                    await pipeline.execute()
            except (RedisError, OSError) as error:
                log.warning("replies_keep_their_lifetime", replies=len(lifetimes), error=repr(error))

    async def _settle(self, waiting: _Waiting, answer: Any) -> bool:
        """Note what became of the entry; returns False if it must be sent again."""
        try:
            if isinstance(answer, Exception):
                waiting.reply.error = waiting.reply.error or await self._judge(waiting, answer)
        except TRANSIENT:
            return False
        waiting.written.set()
        return True

    async def _judge(self, waiting: _Waiting, refusal: Exception) -> Exception | None:
        """Return why the reply cannot go on; None if the entry had arrived the first time it was sent."""
        if not isinstance(refusal, ResponseError) or isinstance(refusal, TRANSIENT):
            raise refusal
        if "equal or smaller" not in str(refusal):
            return refusal
        last = await self._redis.xrevrange(waiting.key, count=1)
        if last and order(last[0][0].decode())[0] > waiting.reply.attempt:
            return ReplySupersededError(f"{waiting.key}: a later attempt than {waiting.reply.attempt} writes")
        return None


def _queue_entry(pipeline: Any, waiting: _Waiting) -> None:
    entry = waiting.entry
    if waiting.is_for_inbox:  # an inbox exists as long as its process lives; nobody else reads it
        pipeline.execute_command(
            "XADD", waiting.key, "NOMKSTREAM", "*",
            "j", waiting.reply.job_id, "i", entry.id, "k", entry.kind.value, "d", entry.data,
        )  # fmt: skip
    else:
        pipeline.execute_command("XADD", waiting.key, entry.id, "k", entry.kind.value, "d", entry.data)


def _lifetimes(batch: list[_Waiting]) -> dict[str, int]:
    """Return how long each reply stream lives that starts or ends here."""
    lifetimes: dict[str, int] = {}
    for waiting in batch:
        if waiting.is_for_inbox:
            continue
        if waiting.entry.kind is Kind.END:
            lifetimes[waiting.key] = RETENTION_S
        elif waiting.entry.kind is Kind.STARTED:
            lifetimes[waiting.key] = LIFETIME_S
    return lifetimes
