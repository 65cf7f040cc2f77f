"""Replies: written once, followed by many, resumed exactly, refused to zombies; and the inbox of a process."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from arq import ArqRedis

from shared.queue.connections import open_pool
from shared.queue.lanes import INFERENCE, open_lane
from shared.replies.entries import (
    LIFETIME_S,
    MAX_INLINE_BYTES,
    RETENTION_S,
    Ending,
    Entry,
    Kind,
    ReplyLostError,
    ReplySupersededError,
    decode_ending,
    decode_entries,
    position_of,
    reply_key,
)
from shared.replies.inbox import Inbox, Waiter
from shared.replies.reader import ReplyReader
from shared.replies.writer import Reply, ReplyWriter
from tests.servers import RedisServer
from tests.waiting import eventually

DONE = Ending("completed", 200, "application/json", b'{"ok":true}')
LARGE = Ending("completed", 200, "text/plain", b"x" * (MAX_INLINE_BYTES + 1))
FAILED = Ending("failed", 503, "application/json", b'{"code":"provider_unavailable"}')


@pytest_asyncio.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[ArqRedis]:
    redis = open_lane(open_pool(redis_server.url), INFERENCE)
    yield redis
    await redis.aclose(close_connection_pool=True)


@pytest_asyncio.fixture
async def writer(redis: ArqRedis) -> AsyncIterator[ReplyWriter]:
    writer = ReplyWriter(redis)
    yield writer
    await writer.close()


@pytest_asyncio.fixture
async def reader(redis: ArqRedis) -> AsyncIterator[ReplyReader]:
    reader = ReplyReader(redis)
    yield reader
    await reader.close()


def started(writer: ReplyWriter, job_id: str = "job", *, attempt: int = 1, inbox: str | None = None) -> Reply:
    """Return the begun reply of a stream."""
    reply = writer.open(job_id, attempt=attempt, inbox=inbox, is_stream=True)
    reply.start()
    return reply


async def written(writer: ReplyWriter, count: int, job_id: str = "job") -> Reply:
    """Write a whole reply of `count` chunks."""
    reply = started(writer, job_id)
    for n in range(1, count + 1):
        await reply.push([f"1-{n}".encode()])
    await reply.end(DONE)
    return reply


async def collect(reader: ReplyReader, job_id: str = "job", after: str = "0-0") -> list[Entry]:
    return [entry async for entry in reader.follow(job_id, position_of(after)) if entry is not None]


def chunks(entries: list[Entry]) -> list[str]:
    return [entry.data.decode() for entry in entries if entry.kind is Kind.CHUNK]


def numbered(first: int, last: int) -> list[str]:
    """Return the texts of the chunks that `written` writes; each is its own id."""
    return [f"1-{n}" for n in range(first, last + 1)]


async def is_reading(redis: ArqRedis) -> bool:
    return [client["cmd"] for client in await redis.client_list()].count("xread") == 1


async def has_length(redis: ArqRedis, entries: int, job_id: str = "job") -> bool:
    rows = await redis.xrange(reply_key(job_id))
    return sum(len(decode_entries(fields[b"d"])) for _, fields in rows) == entries


async def test_entries_arrive_in_order(writer: ReplyWriter, reader: ReplyReader, redis: ArqRedis) -> None:
    following = asyncio.ensure_future(collect(reader))
    await eventually(lambda: is_reading(redis))

    await written(writer, 1000)

    entries = await following
    assert [entry.id for entry in entries] == [f"1-{n}" for n in range(1002)]
    assert (entries[0].kind, entries[-1].kind) == (Kind.STARTED, Kind.END)
    assert chunks(entries) == numbered(1, 1000)


async def test_a_late_follower_gets_everything(writer: ReplyWriter, reader: ReplyReader, redis: ArqRedis) -> None:
    reply = await written(writer, 300)

    entries = await collect(reader)

    assert chunks(entries) == numbered(1, 300)
    assert decode_ending(entries[-1].data) == Ending("completed", 200, "application/json", None)
    assert 0 < await redis.ttl(reply_key("job")) <= RETENTION_S
    assert await reader.read("job") == reply.entries == entries[:-1]


async def test_resume_is_exact(writer: ReplyWriter, reader: ReplyReader) -> None:
    await written(writer, 20)

    assert chunks(await collect(reader, after="1-7")) == numbered(8, 20)


async def test_followers_of_one_reply_may_join_at_any_time(writer: ReplyWriter, reader: ReplyReader) -> None:
    reply, followers = started(writer), []
    for n in range(1, 51):
        await reply.push([f"1-{n}".encode()])
        after = f"1-{n // 2}" if n % 3 else "0-0"
        followers.append((after, asyncio.ensure_future(collect(reader, after=after))))
        await asyncio.sleep(0.002)
    await reply.end(DONE)

    for after, follower in followers:
        first = int(after.partition("-")[2]) + 1 if after else 1
        assert chunks(await follower) == numbered(max(first, 1), 50)


async def test_a_new_attempt_restarts_the_reply_and_refuses_the_zombie(
    writer: ReplyWriter, reader: ReplyReader, redis: ArqRedis
) -> None:
    zombie = started(writer)
    await zombie.push([b"1-1"])
    following = asyncio.ensure_future(collect(reader))
    await eventually(lambda: has_length(redis, 2))

    other_process = ReplyWriter(redis)
    other = started(other_process, attempt=2)
    await other.push([b"2-1"])
    await eventually(lambda: has_length(redis, 4))
    await zombie.push([b"1-2"])
    with pytest.raises(ReplySupersededError):
        await zombie.end(DONE)
    with pytest.raises(ReplySupersededError):
        await zombie.push([b"1-3"])
    await other.end(DONE)

    assert [(entry.id, entry.kind) for entry in await following] == [
        ("1-0", Kind.STARTED),
        ("1-1", Kind.CHUNK),
        ("2-0", Kind.STARTED),
        ("2-1", Kind.CHUNK),
        ("2-2", Kind.END),
    ]
    assert [entry.id for entry in await other_process.read_before("job", 2)] == ["1-0", "1-1"]


async def test_an_attempt_that_failed_tells_of_the_next_one(writer: ReplyWriter, reader: ReplyReader) -> None:
    first = started(writer)
    first.retry(b'{"type":"job.retry_scheduled"}')
    second = started(writer, attempt=2)
    await second.push([b"2-1"])
    await second.end(FAILED)

    entries = await collect(reader)

    assert [entry.kind for entry in entries] == [Kind.STARTED, Kind.RETRY, Kind.STARTED, Kind.CHUNK, Kind.END]
    assert entries[1].data == b'{"type":"job.retry_scheduled"}'
    assert decode_ending(entries[-1].data).status == "failed"


async def test_a_reply_sent_again_from_its_log_adds_only_what_is_missing(
    writer: ReplyWriter, reader: ReplyReader, redis: ArqRedis
) -> None:
    reply = started(writer)
    for n in range(1, 4):
        await reply.push([f"1-{n}".encode()])
    await eventually(lambda: has_length(redis, 4))
    assert RETENTION_S < await redis.ttl(reply_key("job")) <= LIFETIME_S
    unsent = reply.prepare(b"1-4")  # its worker died here

    again = ReplyWriter(redis).open("job", attempt=1, inbox=None, is_stream=True)
    for entry in reply.entries:
        again.repeat(entry)
    await again.end(DONE)

    entries = await collect(reader)
    assert entries[-2] == unsent
    assert chunks(entries) == numbered(1, 4)


async def test_silence_is_told_and_does_not_end_the_following(writer: ReplyWriter, redis: ArqRedis) -> None:
    reader = ReplyReader(redis, idle_s=0.02)
    stream = reader.follow("job")
    assert await anext(stream) is None
    assert await anext(stream) is None

    await written(writer, 1)

    assert chunks([entry async for entry in stream if entry is not None]) == ["1-1"]
    await reader.close()


async def test_a_lost_part_is_reported_not_skipped(writer: ReplyWriter, reader: ReplyReader, redis: ArqRedis) -> None:
    reply = started(writer)
    await reply.push([b"1-1"])
    await eventually(lambda: has_length(redis, 2))
    await redis.flushall()
    await reply.push([b"1-2"])
    await reply.end(DONE)

    with pytest.raises(ReplyLostError):
        await collect(reader)
    assert chunks(await collect(reader, after="1-1")) == ["1-2"]


@pytest.mark.parametrize("after", ["x", "1", "1-", "-1-0", "1-99999999999999999999", "$", "1-1-1"])
async def test_a_made_up_id_is_refused_before_it_reaches_redis(reader: ReplyReader, after: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        await collect(reader, after=after)


async def test_many_followers_share_one_connection(writer: ReplyWriter, reader: ReplyReader, redis: ArqRedis) -> None:
    following = [asyncio.ensure_future(collect(reader, f"job{n}")) for n in range(500)]
    await eventually(lambda: is_reading(redis))

    await asyncio.gather(*(written(writer, 10, f"job{n}") for n in range(500)))

    for entries in await asyncio.gather(*following):
        assert chunks(entries) == numbered(1, 10)
    assert len(await redis.client_list()) < 10


async def test_replies_outlive_broken_connections(
    writer: ReplyWriter, reader: ReplyReader, redis: ArqRedis, redis_server: RedisServer
) -> None:
    following = asyncio.ensure_future(collect(reader))
    reply = started(writer)
    killer = open_lane(open_pool(redis_server.url), INFERENCE)
    for n in range(1, 51):
        await reply.push([f"1-{n}".encode()])
        if n % 10 == 5:
            await kill_others(killer)
        await asyncio.sleep(0.002)
    await reply.end(DONE)

    assert chunks(await following) == numbered(1, 50)
    await killer.aclose(close_connection_pool=True)


async def kill_others(redis: ArqRedis) -> None:
    own = await redis.client_id()
    for client in await redis.client_list():
        if int(client["id"]) != own:
            await redis.client_kill_filter(client["id"])


class RecordingInbox(Inbox):
    """An inbox whose owner takes note of the jobs to look up."""

    def __init__(self, redis: ArqRedis) -> None:
        self.looked_up: list[str] = []
        super().__init__(redis, self._take_note)

    async def _take_note(self, job_ids: list[str]) -> None:
        self.looked_up += job_ids


@pytest_asyncio.fixture
async def inbox(redis: ArqRedis) -> AsyncIterator[RecordingInbox]:
    inbox = RecordingInbox(redis)
    await inbox.start()
    yield inbox
    await inbox.close()


async def taken(waiter: Waiter, count: int) -> list[Entry]:
    """Return the next entries of a waiter."""
    async with asyncio.timeout(15):
        entries = [await waiter.next() for _ in range(count)]
    return [entry for entry in entries if entry is not None]


async def test_an_inbox_delivers_each_reply_to_its_waiter(writer: ReplyWriter, inbox: Inbox) -> None:
    waiters = {f"job{n}": inbox.wait_for(f"job{n}") for n in range(100)}
    forgotten = inbox.wait_for("forgotten")
    assert await forgotten.next(0.02) is None
    inbox.forget("forgotten")

    for job_id in ["forgotten", "of nobody", *waiters]:
        reply = writer.open(job_id, attempt=1, inbox=inbox.key, is_stream=False)
        reply.start()
        await reply.end(Ending("completed", 200, "text/plain", job_id.encode()))

    assert not forgotten.entries
    for job_id, waiter in waiters.items():
        [end] = await taken(waiter, 1)
        assert (end.id, end.kind, decode_ending(end.data).body) == ("1-1", Kind.END, job_id.encode())


async def test_only_a_stream_has_a_reply_that_others_can_follow(writer: ReplyWriter, redis: ArqRedis) -> None:
    plain = writer.open("plain", attempt=1, inbox=None, is_stream=False)
    plain.start()
    plain.retry(b"{}")
    await plain.end(DONE)

    assert plain.entries == []
    assert await redis.keys("sluice:reply:*") == []


async def test_a_stream_goes_to_the_inbox_and_to_its_followers(
    writer: ReplyWriter, reader: ReplyReader, inbox: Inbox
) -> None:
    waiter = inbox.wait_for("job")
    reply = started(writer, inbox=inbox.key)
    await reply.push([b"1-1"])
    await reply.push([b"1-2"])
    await reply.end(DONE)

    entries = await taken(waiter, 4)

    assert [entry.id for entry in entries] == ["1-0", "1-1", "1-2", "1-3"]
    assert chunks(entries) == numbered(1, 2)
    assert await collect(reader) == entries


@pytest.mark.parametrize(
    ("ending", "is_stream", "has_body"),
    [(DONE, False, True), (LARGE, False, False), (DONE, True, False), (FAILED, True, True)],
)
async def test_an_ending_carries_what_its_waiter_could_not_have_otherwise(
    writer: ReplyWriter, inbox: Inbox, ending: Ending, is_stream: bool, has_body: bool
) -> None:
    waiter = inbox.wait_for("job")

    await writer.open("job", attempt=1, inbox=inbox.key, is_stream=is_stream).end(ending)

    received = decode_ending((await taken(waiter, 1))[0].data)
    assert received == Ending(ending.status, ending.http_status, ending.content_type, ending.body if has_body else None)


async def test_a_reply_to_a_process_that_has_left_leaves_nothing_behind(writer: ReplyWriter, redis: ArqRedis) -> None:
    inbox = RecordingInbox(redis)
    await inbox.start()
    assert inbox.is_connected
    await inbox.close()

    await writer.open("job", attempt=1, inbox=inbox.key, is_stream=False).end(DONE)

    assert await redis.keys("*") == []


async def test_after_a_lost_inbox_everybody_is_looked_up_and_new_replies_arrive(
    writer: ReplyWriter, inbox: RecordingInbox, redis: ArqRedis
) -> None:
    waiting, lost = inbox.wait_for("waiting"), inbox.wait_for("lost")
    await redis.flushall()
    await writer.open("lost", attempt=1, inbox=inbox.key, is_stream=False).end(DONE)

    await eventually(lambda: set(inbox.looked_up) == {"waiting", "lost"})
    await writer.open("waiting", attempt=1, inbox=inbox.key, is_stream=False).end(DONE)

    assert decode_ending((await taken(waiting, 1))[0].data) == DONE
    assert not lost.entries


async def test_an_inbox_outlives_a_restart_of_redis(own_redis: RedisServer) -> None:
    redis = open_lane(open_pool(own_redis.url), INFERENCE)
    inbox = RecordingInbox(redis)
    await inbox.start()
    waiter = inbox.wait_for("job")

    own_redis.kill()
    await eventually(lambda: not inbox.is_connected)
    own_redis.start()

    await eventually(lambda: inbox.looked_up == ["job"])
    await ReplyWriter(redis).open("job", attempt=1, inbox=inbox.key, is_stream=False).end(DONE)
    assert decode_ending((await taken(waiter, 1))[0].data) == DONE
    await inbox.close()
    await redis.aclose(close_connection_pool=True)


async def test_an_unreadable_row_keeps_nobody_waiting(writer: ReplyWriter, inbox: Inbox, redis: ArqRedis) -> None:
    waiting = inbox.wait_for("waiting")
    await asyncio.gather(*(redis.xadd(inbox.key, {"d": damaged}) for damaged in (b"\xc1", b"", b"\x91\x01")))

    await writer.open("waiting", attempt=1, inbox=inbox.key, is_stream=False).end(DONE)

    assert decode_ending((await taken(waiting, 1))[0].data) == DONE
