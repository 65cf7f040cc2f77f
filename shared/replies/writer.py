"""Write replies: all replies of the process share one pipeline, which fills while the previous one is away.

What a reply has produced by the moment its turn comes is one row of its stream, and what all replies have for one inbox
is one row of that inbox, so the cost of a chunk falls as the load grows.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog
from msgspec import Struct, msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis_errors import is_transient
from shared.replies.entries import (
    LIFETIME_S,
    RETENTION_S,
    Delivery,
    Ending,
    Entry,
    Kind,
    ReplySupersededError,
    decode_entries,
    encode_ending,
    reply_key,
)

log = structlog.get_logger()

_MAX_WAITING: Final = 20_000
"""Entries; above, `push` waits: Redis is slower than the models."""
_PAUSE_S: Final = 0.1
_MAX_ROW_BYTES: Final = 1024 * 1024


class Reply:
    """The reply of one attempt of one job."""

    def __init__(self, writer: "ReplyWriter", job_id: str, attempt: int, inbox: str | None, *, is_stream: bool) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.inbox = inbox
        self.error: Exception | None = None
        self.entries: list[Entry] = []
        """All written so far, but the END: the log of the reply.  Unless it is a stream, only what was prepared."""
        self.for_stream: list[Entry] = []
        self.for_inbox: list[Entry] = []
        """Taken by the writer when its turn comes."""
        self.written: asyncio.Future[None] | None = None
        """Resolved when all is written, or refused; then there is an error."""
        self._writer = writer
        self._is_stream = is_stream
        self._seq = 0

    def start(self, dropped: Sequence[str] = ()) -> None:
        """Say that the attempt has begun, and which parameters its provider does not get."""
        if self._is_stream:
            self.send(self._take(Kind.STARTED, ", ".join(dropped).encode()))
        self._seq = max(self._seq, 1)

    def prepare(self, data: bytes) -> Entry:
        """Take one chunk into the log without sending it; `send` follows once the log is stored."""
        return self._take(Kind.CHUNK, data)

    async def push(self, chunks: list[bytes]) -> None:
        """Add chunks; returns before they are written.

        Raises `ReplySupersededError` once an earlier chunk was refused: another attempt runs, stop this one.
        """
        for data in chunks:
            self.send(self._take(Kind.CHUNK, data))
        if not self._writer.has_room:
            await self._writer.wait_for_room()

    def retry(self, data: bytes) -> None:
        """Say that the attempt has failed and another one is planned; `data` is a lifecycle frame."""
        if self._is_stream:
            self.send(self._take(Kind.RETRY, data))

    def repeat(self, entry: Entry) -> None:
        """Send an entry of the stored log again; readers that have it skip it."""
        self._seq = entry.seq + 1
        self.send(entry)

    async def end(self, ending: Ending) -> None:
        """Say how the job ended and wait until all of the reply is written; without a reader nothing is written."""
        if self.error is not None:
            raise self.error
        if self._is_stream:
            self.for_stream.append(self._end(ending, with_body=False))
        if self.inbox is not None:
            self.for_inbox.append(self._end(ending, with_body=not self._is_stream or ending.http_status >= 400))
        if self.for_stream or self.for_inbox:
            self.written = asyncio.get_running_loop().create_future()
            self._writer.add(self)
            await self.written
        if self.error is not None:
            raise self.error

    def _end(self, ending: Ending, *, with_body: bool) -> Entry:
        return Entry(self.attempt, self._seq, Kind.END, encode_ending(ending, with_body=with_body))

    def _take(self, kind: Kind, data: bytes) -> Entry:
        entry = Entry(self.attempt, self._seq, kind, data)
        self._seq += 1
        self.entries.append(entry)
        return entry

    def send(self, entry: Entry) -> None:
        """Send an entry taken before; returns before it is written."""
        if self.error is not None:
            raise self.error
        self.for_stream.append(entry)
        if self.inbox is not None:
            self.for_inbox.append(entry)
        self._writer.add(self)


class _Row(Struct):
    """One row on its way to Redis."""

    command: tuple[str | bytes | int, ...]
    reply: Reply | None = None
    """Whose stream it belongs to; None if it goes to an inbox."""


class ReplyWriter:
    """Writes the replies of one worker process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: dict[Reply, None] = {}
        self._entries = 0
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Return whether `push` need not wait."""
        return self._entries < _MAX_WAITING

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
        return [entry for _, fields in rows for entry in decode_entries(fields[b"d"])]

    def add(self, reply: Reply) -> None:
        """Queue what a reply has to write; called by `Reply` for each of its entries."""
        self._entries += 1
        self._waiting[reply] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def wait_for_room(self) -> None:
        """Wait while too much is queued."""
        self._room.clear()
        await self._room.wait()

    async def close(self) -> None:
        """Wait until nothing is under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                replies, self._waiting, self._entries = list(self._waiting), {}, 0
                self._room.set()
                ended = [reply for reply in replies if reply.written is not None]
                await self._write(_to_rows(replies))
                for reply in ended:
                    if reply.written is not None and not reply.written.done():
                        reply.written.set_result(None)
        finally:
            self._task = None

    async def _write(self, rows: list[_Row]) -> None:
        """Write the rows; those that may not have arrived are sent again, which their ids make harmless."""
        while rows:
            answers = await self._send(rows)
            rows = [row for row, answer in zip(rows, answers, strict=True) if not await self._settle(row, answer)]
            if rows:
                log.warning("replies_delayed", rows=len(rows))
                await asyncio.sleep(_PAUSE_S)

    async def _send(self, rows: list[_Row]) -> list[Any]:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for row in rows:
                    pipeline.execute_command(*row.command)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            return [error] * len(rows)
        return answers

    async def _settle(self, row: _Row, answer: Any) -> bool:
        """Note what became of the row; returns False if it must be sent again."""
        if not isinstance(answer, Exception):
            return True
        if is_transient(answer):
            return False
        try:
            error = await self._judge(row, answer)
        except (RedisError, OSError):
            return False
        if row.reply is not None:
            row.reply.error = row.reply.error or error
        elif error is not None:
            log.error("inbox_refuses", error=repr(error))
        return True

    async def _judge(self, row: _Row, refusal: Exception) -> Exception | None:
        """Return why the reply cannot go on; None if the row had arrived the first time it was sent."""
        if row.reply is None or "equal or smaller" not in str(refusal):
            return refusal
        key = reply_key(row.reply.job_id)
        last = await self._redis.xrevrange(key, count=1)
        if last and int(last[0][0].partition(b"-")[0]) > row.reply.attempt:
            return ReplySupersededError(f"{key}: a later attempt than {row.reply.attempt} writes")
        return None


def _to_rows(replies: list[Reply]) -> list[_Row]:
    """Take what the replies have to write."""
    rows: list[_Row] = []
    inboxes: dict[str, list[Delivery]] = {}
    for reply in replies:
        if reply.for_stream:
            rows += _stream_rows(reply)
            reply.for_stream = []
        if reply.for_inbox and reply.inbox is not None:
            inboxes.setdefault(reply.inbox, []).append(Delivery(reply.job_id, reply.for_inbox))
            reply.for_inbox = []
    for inbox, deliveries in inboxes.items():
        rows += _inbox_rows(inbox, deliveries)
    return rows


def _inbox_rows(inbox: str, deliveries: list[Delivery]) -> list[_Row]:
    """Return rows of bounded size; an inbox exists as long as its process lives, and nobody else reads it."""
    rows, part, size = [], [], 0
    for delivery in deliveries:
        part.append(delivery)
        size += sum(len(entry.data) for entry in delivery.entries)
        if size > _MAX_ROW_BYTES:
            rows.append(part)
            part, size = [], 0
    if part:
        rows.append(part)
    return [_Row(("XADD", inbox, "NOMKSTREAM", "*", "d", msgpack.encode(part))) for part in rows]


def _stream_rows(reply: Reply) -> list[_Row]:
    key, first, last = reply_key(reply.job_id), reply.for_stream[0], reply.for_stream[-1]
    rows = [_Row(("XADD", key, last.id, "d", msgpack.encode(reply.for_stream)), reply)]
    if last.kind is Kind.END:  # only ever sent for a job that is over, so no attempt suffers
        rows.append(_Row(("EXPIRE", key, RETENTION_S), reply))
    elif first.kind is Kind.STARTED:
        rows.append(_Row(("EXPIRE", key, LIFETIME_S), reply))
    return rows
