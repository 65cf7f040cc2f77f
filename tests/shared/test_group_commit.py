"""Group commit, the same on SQLite and PostgreSQL."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from shared.database import connect_sqlite, sqlite_path
from shared.group_commit import open_writer
from shared.group_commit.postgres import PostgresStore
from shared.group_commit.sqlite import SqliteStore
from shared.group_commit.units import (
    Result,
    StaleError,
    Statement,
    Store,
    StoreUnavailableError,
    Unit,
    WriterBusyError,
    WriterClosedError,
    insert_sql,
)
from shared.group_commit.writer import GroupCommit
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
TABLE = "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, state TEXT NOT NULL)"
INSERT = insert_sql("jobs", ("id", "state"))
STEP = "UPDATE jobs SET state = $2 WHERE id = $1 AND state = $3"
DUPLICATE = (sqlite3.IntegrityError, asyncpg.UniqueViolationError)


class CountingStore:
    """A store that remembers how large each batch was."""

    def __init__(self, store: Store) -> None:
        self.batches: list[int] = []
        self.durable: list[bool] = []
        self._store = store

    async def commit(self, units: Sequence[Unit], *, durable: bool) -> list[list[Result]]:
        self.batches.append(len(units))
        self.durable.append(durable)
        return await self._store.commit(units, durable=durable)

    async def close(self) -> None:
        await self._store.close()


@pytest.fixture
def store(database_url: str) -> CountingStore:
    path = sqlite_path(database_url)
    return CountingStore(PostgresStore(database_url) if path is None else SqliteStore(path))


@pytest_asyncio.fixture
async def writer(store: CountingStore) -> AsyncIterator[GroupCommit]:
    writer = GroupCommit(store)
    await writer.execute(TABLE)
    store.batches.clear()
    yield writer
    await writer.close()


async def stored(writer: GroupCommit) -> dict[str, str]:
    """Return the state of each row."""
    rows = (await writer.execute("SELECT id, state FROM jobs ORDER BY id")).rows
    return dict(rows)


def step(job_id: str, state: str, expected: str) -> Statement:
    """Return a compare-and-set."""
    return Statement(STEP, (job_id, state, expected), expects=1)


async def test_many_callers_share_few_commits(writer: GroupCommit, store: CountingStore) -> None:
    await asyncio.gather(*(writer.execute(INSERT, (f"j{n:04}", "queued")) for n in range(1000)))

    assert len(store.batches) <= 10
    assert list(await stored(writer)) == [f"j{n:04}" for n in range(1000)]


async def test_callers_get_rows_and_counts(writer: GroupCommit) -> None:
    insert = f"{INSERT} ON CONFLICT DO NOTHING RETURNING id, state"
    update = "UPDATE jobs SET state = $2 WHERE id = $1 AND state <> $2 RETURNING state"

    inserted = await asyncio.gather(*(writer.execute(insert, (job_id, "queued")) for job_id in "aab"))
    updated = await asyncio.gather(*(writer.execute(update, (job_id, "done")) for job_id in "aax"))
    everything = await writer.execute("UPDATE jobs SET state = $1", ("new",))

    assert [result.rows for result in inserted] == [[("a", "queued")], [], [("b", "queued")]]
    assert [(result.rowcount, result.rows) for result in updated] == [(1, [("done",)]), (0, []), (0, [])]
    assert everything.rowcount == 2


async def test_a_unit_is_written_whole_or_not_at_all(writer: GroupCommit) -> None:
    await writer.execute(INSERT, ("taken", "queued"))

    with pytest.raises(DUPLICATE):
        await writer.execute_many([Statement(INSERT, ("new", "queued")), Statement(INSERT, ("taken", "queued"))])
    pair = await writer.execute_many([Statement(INSERT, ("x", "queued")), step("x", "done", "queued")])

    assert await stored(writer) == {"taken": "queued", "x": "done"}
    assert [result.rowcount for result in pair] == [1, 1]


async def test_a_stale_unit_is_undone_alone(writer: GroupCommit) -> None:
    await asyncio.gather(*(writer.execute(INSERT, (f"j{n}", "queued")) for n in range(20)))
    await writer.execute("UPDATE jobs SET state = 'cancelled' WHERE id = $1", ("j7",))
    units = [(Statement(INSERT, (f"log{n}", "start")), step(f"j{n}", "running", "queued")) for n in range(20)]

    results = await asyncio.gather(*(writer.execute_many(unit) for unit in units), return_exceptions=True)

    assert [n for n, result in enumerate(results) if isinstance(result, StaleError)] == [7]
    expected = {f"j{n}": "running" for n in range(20)} | {f"log{n}": "start" for n in range(20)}
    del expected["log7"]
    assert await stored(writer) == expected | {"j7": "cancelled"}


async def test_a_stale_unit_among_units_of_other_shapes_is_undone_alone(writer: GroupCommit) -> None:
    await writer.execute(INSERT, ("j", "cancelled"))

    first, stale, last = await asyncio.gather(
        writer.execute(INSERT, ("before", "x")),
        writer.execute_many([Statement(INSERT, ("log", "x")), step("j", "running", "queued")]),
        writer.execute_many([Statement(INSERT, ("after", "x")), step("j", "expired", "cancelled")]),
        return_exceptions=True,
    )

    assert isinstance(stale, StaleError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert await stored(writer) == {"before": "x", "after": "x", "j": "expired"}


async def test_of_two_units_that_expect_the_same_state_one_is_stale(writer: GroupCommit) -> None:
    await writer.execute(INSERT, ("j", "queued"))

    results = await asyncio.gather(
        *(writer.execute_many([step("j", f"by-{n}", "queued"), Statement(INSERT, (f"{n}", "won"))]) for n in range(5)),
        return_exceptions=True,
    )

    assert [isinstance(result, StaleError) for result in results] == [False, True, True, True, True]
    assert await stored(writer) == {"0": "won", "j": "by-0"}


async def test_a_unit_may_expect_that_nothing_changes(writer: GroupCommit) -> None:
    await writer.execute(INSERT, ("taken", "queued"))
    insert = f"{INSERT} ON CONFLICT DO NOTHING"

    taken, free = await asyncio.gather(
        *(writer.execute_many([Statement(insert, (job_id, "x"), expects=0)]) for job_id in ("taken", "free")),
        return_exceptions=True,
    )

    assert not isinstance(taken, BaseException)
    assert isinstance(free, StaleError)
    assert await stored(writer) == {"taken": "queued"}


async def test_bad_units_fail_alone(writer: GroupCommit) -> None:
    units = [writer.execute(INSERT, (f"j{n:03}", "queued")) for n in range(200)]
    units += [writer.execute(INSERT, ("j007", "queued")), writer.execute("INSERT INTO nowhere VALUES ($1)", ("x",))]
    units += [writer.execute(INSERT, (f"k{n:03}", "queued")) for n in range(50)]
    units += [writer.execute(INSERT, ("only one parameter",)), writer.execute(INSERT, ("null", None))]

    results = await asyncio.gather(*units, return_exceptions=True)

    failed = [place for place, result in enumerate(results) if isinstance(result, Exception)]
    assert failed == [200, 201, 252, 253]
    assert not any(isinstance(result, StoreUnavailableError) for result in results)
    assert len(await stored(writer)) == 250


async def test_units_of_one_shape_are_written_in_the_order_of_the_calls(writer: GroupCommit) -> None:
    await writer.execute(INSERT, ("x", "0"))

    await asyncio.gather(*(writer.execute_many([step("x", str(n + 1), str(n))]) for n in range(300)))

    assert await stored(writer) == {"x": "300"}


async def test_a_word_in_a_string_does_not_confuse_the_writer(writer: GroupCommit) -> None:
    odd = "INSERT INTO jobs (id, state) VALUES ($1, 'returning')"

    await asyncio.gather(*(writer.execute_many([Statement(odd, (str(n),), expects=1)]) for n in range(10)))

    assert await stored(writer) == {str(n): "returning" for n in range(10)}


async def test_a_full_queue_refuses_at_once(store: CountingStore) -> None:
    writer = GroupCommit(store, max_waiting=10)
    await writer.execute(TABLE)

    results = await asyncio.gather(
        *(writer.execute(INSERT, (str(n), "queued")) for n in range(30)), return_exceptions=True
    )

    refused = [result for result in results if isinstance(result, WriterBusyError)]
    assert len(refused) == 20
    assert len(await stored(writer)) == 10
    await writer.close()


async def test_close_writes_what_waits_and_refuses_the_rest(database_url: str) -> None:
    writer = open_writer(database_url)
    await writer.execute(TABLE)
    waiting = [asyncio.ensure_future(writer.execute(INSERT, (str(n), "queued"))) for n in range(100)]
    await asyncio.sleep(0)

    await writer.close()

    assert all(task.done() and task.exception() is None for task in waiting)
    with pytest.raises(WriterClosedError):
        await writer.execute(INSERT, ("late", "queued"))
    assert len(await read_ids(database_url)) == 100


async def test_a_cancelled_caller_does_not_stop_the_others(writer: GroupCommit) -> None:
    tasks = [asyncio.ensure_future(writer.execute(INSERT, (str(n), "queued"))) for n in range(10)]
    await asyncio.sleep(0)

    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert tasks[0].cancelled()
    assert len(await stored(writer)) == 10


async def test_a_broken_connection_is_reported_and_replaced(postgres_url: str) -> None:
    writer = open_writer(postgres_url)

    with pytest.raises(StoreUnavailableError):
        await writer.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert (await writer.execute("SELECT 1")).rows == [(1,)]
    await writer.close()


async def test_an_unreachable_file_is_the_store_not_the_unit(tmp_path: Path) -> None:
    writer = open_writer(f"sqlite:///{tmp_path}/no/such/folder/jobs.db")

    with pytest.raises(WriterBusyError):
        await writer.execute("SELECT 1")
    await writer.close()


async def test_a_unit_waits_for_another_process_that_writes(tmp_path: Path) -> None:
    writer = open_writer(f"sqlite:///{tmp_path}/jobs.db")
    await writer.execute(TABLE)
    other = connect_sqlite(tmp_path / "jobs.db")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO jobs VALUES ('other', 'queued')")
    waiting = asyncio.ensure_future(writer.execute(INSERT, ("mine", "queued")))
    await asyncio.sleep(0.05)
    assert not waiting.done()

    other.execute("COMMIT")
    other.close()
    await waiting

    assert list(await stored(writer)) == ["mine", "other"]
    await writer.close()


def test_a_killed_process_loses_no_acknowledged_row(database_url: str) -> None:
    command = [sys.executable, "-m", "tests.shared.test_group_commit", database_url]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    acknowledged = [child.stdout.readline().decode().strip() for _ in range(2000)]

    os.kill(child.pid, signal.SIGKILL)
    acknowledged += child.stdout.read().decode().split("\n")[:-1]
    child.wait()
    child.stdout.close()

    assert set(acknowledged) <= set(asyncio.run(read_ids(database_url)))
    if (path := sqlite_path(database_url)) is not None:
        connection = connect_sqlite(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


async def read_ids(database_url: str) -> list[str]:
    """Return the ids of all rows, read on a connection of their own."""
    writer = open_writer(database_url)
    rows = (await writer.execute("SELECT id FROM jobs")).rows
    await writer.close()
    return [job_id for (job_id,) in rows]


async def commit_until_killed(database_url: str, *, callers: int = 32) -> None:
    """Commit rows, and print the id of each acknowledged one."""
    writer, serial = open_writer(database_url), count()
    await writer.execute(TABLE)

    async def call() -> None:
        while True:
            job_id = f"j{next(serial)}"
            await writer.execute(INSERT, (job_id, "x" * 600))
            os.write(1, f"{job_id}\n".encode())

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())


if __name__ == "__main__":
    asyncio.run(commit_until_killed(sys.argv[1]))


class HangingStore:
    """A store whose commits end when they are let go."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.units: list[Unit] = []

    async def commit(self, units: Sequence[Unit], *, durable: bool) -> list[list[Result]]:
        await self.is_open.wait()
        self.units += units
        return [[Result([], 1)] for _ in units]

    async def close(self) -> None:
        pass


async def test_a_stalled_commit_sends_away_who_comes_after_it() -> None:
    store = HangingStore()
    writer = GroupCommit(store, patience_s=0.05)
    first = asyncio.ensure_future(writer.execute("first"))
    await asyncio.sleep(0)
    behind = [asyncio.ensure_future(writer.execute("behind")) for _ in range(3)]

    for call in behind:
        with pytest.raises(WriterBusyError):
            await call
    with pytest.raises(WriterBusyError):
        await writer.execute("new")
    with pytest.raises(StoreUnavailableError):
        await first
    store.is_open.set()
    await eventually(lambda: store.units)

    await writer.execute("later")
    assert [unit[0].sql for unit in store.units] == ["first", "later"]


async def test_a_batch_is_durable_if_one_of_its_units_has_to_be(writer: GroupCommit, store: CountingStore) -> None:
    store.durable.clear()
    statement = Statement(INSERT, ("a", "new"))
    await writer.execute_many([statement], durable=False)
    await asyncio.gather(
        writer.execute_many([Statement(INSERT, ("b", "new"))], durable=False),
        writer.execute_many([Statement(INSERT, ("c", "new"))]),
    )

    assert store.durable == [False, True]
    assert list(await stored(writer)) == ["a", "b", "c"]


async def test_a_stalled_commit_leaves_its_own_callers_in_doubt() -> None:
    store = HangingStore()
    writer = GroupCommit(store, patience_s=0.05)

    with pytest.raises(StoreUnavailableError):
        await writer.execute("first")

    store.is_open.set()
    await eventually(lambda: store.units)
    await writer.close()


async def test_a_database_behind_a_link_is_synced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "jobs.db")
    writer = GroupCommit(SqliteStore(tmp_path / "link.db"))

    await writer.execute(TABLE)
    await writer.execute(INSERT, ("a", "new"))

    assert await stored(writer) == {"a": "new"}
    await writer.close()
