"""The days of the request log on PostgreSQL, and what holds on both databases: no attempt has two rows."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection, insert
from sqlmodel import col, select, text

from shared.clock import now_ms, to_datetime
from shared.database import Database, postgres_dsn
from shared.group_commit import open_writer
from shared.group_commit.units import StaleError
from shared.ids import new_ulid, oldest_ulid
from shared.jobs.statements import start_attempt
from shared.jobs.tables import JobRow
from shared.migrations import config as new_config
from shared.migrations import migrate
from shared.request_logs.partitions import (
    DAYS_AHEAD,
    drop_partitions,
    list_days,
    make_partitions,
    partition_of,
)
from shared.request_logs.statements import EndedAttempt, StartedAttempt, end_attempt, insert_attempt
from shared.request_logs.tables import RequestLogRow
from tests.databases import new_postgres_database

DAY_MS = 86_400_000


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> str:
    return new_postgres_database(postgres_url, f"p{abs(hash(str(tmp_path)))}")


def log_row(instant_ms: int, **members: Any) -> RequestLogRow:
    row_id = oldest_ulid(instant_ms)[:10] + new_ulid()[10:]
    values = {
        "id": row_id, "created_ms": instant_ms, "job_id": new_ulid(), "attempt": 1, "status": "succeeded",
        "request_id": "req_x", "method": "POST", "endpoint": "/v1/chat/completions", "request_body": b"\x00b",
    }  # fmt: skip
    return RequestLogRow(**values | members)


async def add(database: Database, *rows: RequestLogRow) -> None:
    async with database.transaction() as session:
        for row in rows:  # only of columns that were there at every revision
            await session.exec(insert(RequestLogRow).values(**row.model_dump(exclude_none=True)))


async def dump(database: Database, table: str = "request_logs") -> list[Any]:
    async with database.read() as session:
        return [tuple(row) for row in (await session.exec(text(f"SELECT * FROM {table} ORDER BY id"))).all()]


async def run(database: Database, step: Any, revision: str) -> None:
    def change(connection: Connection) -> None:
        config = new_config()
        config.attributes["connection"] = connection
        step(config, revision)

    async with database.engine.connect() as connection:
        await connection.run_sync(change)
        await connection.commit()
    await database.engine.dispose()  # statements that were prepared for the old schema


async def test_rows_stay_the_same_on_the_way_there_and_back(database_url: str) -> None:
    database = Database(database_url)
    await run(database, command.upgrade, "0015")
    rows = [log_row(now_ms() + days * DAY_MS) for days in (-400, -40, -1, 0, 0, 1, 3, 50)]
    await add(database, *rows)
    before = await dump(database)

    await run(database, command.upgrade, "0016")
    partitioned = await dump(database)
    await run(database, command.downgrade, "0015")
    plain = await dump(database)
    await run(database, command.upgrade, "0016")

    assert len(before) == len(rows)
    assert partitioned == plain == await dump(database) == before
    await database.close()


async def test_partitions_of_the_next_days_are_made_once(postgres: str) -> None:
    database = Database(postgres)
    await migrate(database.engine)
    later = now_ms() + 3 * DAY_MS
    today = to_datetime(now_ms()).date()

    first = await list_days(database)
    await asyncio.gather(*(make_partitions(database, later) for _ in range(3)))
    await make_partitions(database, later)

    assert first == [today + dt.timedelta(days=number) for number in range(DAYS_AHEAD + 1)]
    assert await list_days(database) == [today + dt.timedelta(days=number) for number in range(DAYS_AHEAD + 4)]
    await database.close()


async def test_a_row_that_comes_before_its_partition_is_found_and_moves_there(postgres: str) -> None:
    database = Database(postgres)
    await migrate(database.engine)
    row = log_row(now_ms() + (DAYS_AHEAD + 2) * DAY_MS)
    far = log_row(now_ms() + 100 * DAY_MS)
    await add(database, row, far)
    held = await dump(database, "request_logs_rest")
    found = await dump(database)

    await make_partitions(database, now_ms() + 2 * DAY_MS)

    name = partition_of(to_datetime(row.created_ms).date())
    assert [one[0] for one in held] == [one[0] for one in found] == [row.id, far.id]
    assert await dump(database, name) == held[:1]
    assert await dump(database, "request_logs_rest") == held[1:]
    assert await dump(database) == found
    await database.close()


async def test_days_that_are_over_long_enough_are_dropped_as_a_whole(postgres: str) -> None:
    database = Database(postgres)
    await migrate(database.engine)
    noon = now_ms() // DAY_MS * DAY_MS + DAY_MS // 2
    await add(database, *(log_row(noon + days * DAY_MS) for days in range(5)))

    oldest_ms = await drop_partitions(database, noon + 2 * DAY_MS)

    today = to_datetime(noon).date()
    assert (await list_days(database))[0] == today + dt.timedelta(days=2)
    assert oldest_ms == noon - DAY_MS // 2 + 2 * DAY_MS
    async with database.read() as session:
        created = (await session.exec(select(RequestLogRow.created_ms).order_by(RequestLogRow.id))).all()
        tables = (await session.exec(text("SELECT to_regclass(:name)"), params={"name": partition_of(today)})).one()
    assert list(created) == [noon + days * DAY_MS for days in (2, 3, 4)]
    assert tables[0] is None
    await database.close()


async def test_a_partition_that_was_only_taken_off_is_dropped_later(postgres: str) -> None:
    database = Database(postgres)
    await migrate(database.engine)
    name = partition_of(to_datetime(now_ms()).date())
    async with database.transaction() as session:
        await session.exec(text(f"ALTER TABLE request_logs DETACH PARTITION {name}"))

    await drop_partitions(database, now_ms())

    async with database.read() as session:
        assert (await session.exec(text("SELECT to_regclass(:name)"), params={"name": name})).one()[0] is None
    await database.close()


async def test_who_uses_the_log_is_not_kept_waiting_for_long(postgres: str) -> None:
    database = Database(postgres)
    await migrate(database.engine)
    days = await list_days(database)
    reader = await asyncpg.connect(postgres_dsn(postgres))
    async with reader.transaction():
        await reader.fetch("SELECT * FROM request_logs")
        await drop_partitions(database, now_ms() + 2 * DAY_MS)
        kept = await list_days(database)
    await drop_partitions(database, now_ms() + 2 * DAY_MS)
    await reader.close()

    assert kept == days
    assert await list_days(database) == days[2:]
    await database.close()


def ended(log_id: str, provider_request_id: str | None = None) -> EndedAttempt:
    return EndedAttempt(
        log_id=log_id, status="succeeded", completed_ms=now_ms(), http_status=200,
        provider_request_id=provider_request_id,
        latency_ms=7, ttft_ms=None, prompt_tokens=1, completion_tokens=2, is_estimated=False, cost_micros=3,
        error=None, error_code=None, retry_reason=None,
    )  # fmt: skip


async def test_the_end_of_an_attempt_touches_one_partition(postgres: str) -> None:
    database = Database(postgres)
    await migrate(database.engine)
    row = log_row(now_ms())
    await add(database, row)
    connection = await asyncpg.connect(postgres_dsn(postgres))
    statement = end_attempt(ended(row.id))

    plan = "\n".join(line[0] for line in await connection.fetch(f"EXPLAIN {statement.sql}", *statement.parameters))
    await connection.execute(statement.sql, *statement.parameters)
    await connection.close()

    assert plan.count("Update on request_logs_") == 1
    assert partition_of(to_datetime(row.created_ms).date()) in plan
    async with database.read() as session:
        assert (await session.exec(select(RequestLogRow.latency_ms))).one() == 7
    await database.close()


async def test_an_attempt_that_several_workers_start_has_one_row(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database.engine)
    job = job_row()
    async with database.transaction() as session:
        session.add(job)
    job_id = job.id
    writers = [open_writer(database_url) for _ in range(4)]

    async def start(number: int) -> bool:
        attempt = StartedAttempt(
            log_id=new_ulid(), created_ms=now_ms(), worker=str(number), provider_id=1, provider_type="simulator",
            provider_model="m", job_id=job_id,
        )  # fmt: skip
        try:
            await writers[number % 4].execute_many((start_attempt(job_id, now_ms()), insert_attempt(attempt)))
        except StaleError:
            return False
        return True

    started = await asyncio.gather(*(start(number) for number in range(12)))
    for writer in writers:
        await writer.close()

    async with database.read() as session:
        attempts = (await session.exec(select(RequestLogRow.attempt).order_by(col(RequestLogRow.attempt)))).all()
        number = (await session.exec(select(JobRow.attempt))).one()
    assert list(attempts) == list(range(1, number + 1))
    assert sum(started) == number
    assert 1 <= number < 12
    await database.close()


def job_row() -> JobRow:
    now = now_ms()
    return JobRow(
        id=new_ulid(), kind="chat.completion", endpoint="/v1/chat/completions", status="queued", band=1, stream=False,
        user_id=1, router_id=1, router_name="m", model="m", price_prompt="0", price_completion="0", created_ms=now,
        expires_ms=now + DAY_MS, timeout_s=600, result_ttl_s=600, max_attempts=5, request_id="req_x",
    )  # type: ignore[call-arg]  # fmt: skip


async def test_the_end_of_most_attempts_stays_on_the_page_of_its_row_and_touches_no_index(postgres: str) -> None:
    database, writer = Database(postgres), open_writer(postgres)
    await migrate(database.engine)
    await make_partitions(database, now_ms() + DAY_MS)
    begun = {
        "status": "in_progress", "request_id": f"req_{new_ulid()}", "user_agent": "OpenAI/Python 3.52.0",
        "client_address": "203.0.113.7", "model": "my-language-model", "provider_model": "my-language-model",
        "provider_type": "openai", "worker": "a-host:4711", "request_body": None,
    }  # fmt: skip
    rows = [log_row(now_ms() + days * DAY_MS, **begun) for days in (0, DAYS_AHEAD + 1) for _ in range(200)]
    await add(database, *rows)

    ends = [writer.execute_many([end_attempt(ended(row.id, "chatcmpl-" + "x" * 30))]) for row in rows]
    await asyncio.gather(*ends)

    await writer.execute("SELECT pg_stat_force_next_flush()")
    sums = "SELECT sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables WHERE relname LIKE 'request_logs%'"
    ((updates, in_place),) = (await writer.execute(sums)).rows
    assert updates == 400
    assert in_place > 300, "some pages fill up before old rows can be taken away"
    await writer.close()
    await database.close()


async def test_the_writer_plans_an_update_of_the_log_once(postgres: str) -> None:
    database, writer = Database(postgres), open_writer(postgres)
    await migrate(database.engine)
    for _ in range(12):
        await writer.execute_many([end_attempt(ended(new_ulid()))])

    of_update = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE position($1 IN statement) > 0"
    plans = (await writer.execute(of_update, ["UPDATE request_logs"])).rows

    await writer.close()
    await database.close()
    assert plans == [(12, 0)]
