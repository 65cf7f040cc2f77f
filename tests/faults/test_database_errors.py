"""Single failures of a database that is there: what was accepted goes on, and nothing is done or paid twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from shared.database import create_engine
from shared.group_commit import postgres as postgres_store
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.conftest import make_settings, name_after
from tests.databases import prepared_postgres
from tests.installation import Installation, open_installation
from tests.libraries import EMBEDDER, open_library
from tests.payers import PRICES, payer
from tests.providers import ScriptedProvider, says
from tests.servers import RedisServer
from tests.waiting import eventually
from worker import runner
from worker.context import Runtime
from worker.takeover import read_request

LATER = {"Prefer": "respond-async"}


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> Any:
    with prepared_postgres(postgres_url, name_after(tmp_path)) as url:
        yield url


@asynccontextmanager
async def waiting_for(url: str, lock: str) -> AsyncIterator[Any]:
    """Hold what `lock` takes, and yield a coroutine function that ends all statements which wait for it."""
    holder, other = await asyncpg.connect(url), await asyncpg.connect(url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute(lock)

    async def end(how: str) -> None:
        of_it = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        await eventually(lambda: other.fetch(f"SELECT pid {of_it}"))
        await other.execute(f"SELECT {how}(pid) {of_it}")

    try:
        yield end
    finally:
        await transaction.rollback()
        await holder.close()
        await other.close()


async def install(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


async def is_written_again(installation: Installation) -> bool:
    """Return whether jobs are stored, which they are not before a backend that was given up has ended."""
    await asyncio.sleep(0.5)
    return bool((await installation.chat("B")).status == 200)


async def over(installation: Installation) -> JobRow:
    """Return the newest job when it is over."""

    async def newest() -> JobRow | None:
        row: JobRow = max(await installation.rows(JobRow), key=lambda row: row.id)
        return row if row.finished_ms else None

    row: JobRow = await eventually(newest, within_s=30)
    return row


async def test_an_ingestion_whose_connection_breaks_is_done_again(
    tmp_path: Path, redis_server: RedisServer, postgres: str
) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=postgres, vector_store_model=EMBEDDER)
    async with open_library(settings) as library:
        collection = await library.collection()
        async with waiting_for(postgres, "LOCK TABLE chunks IN EXCLUSIVE MODE") as end:
            await library.upload(collection, "About trains. " * 200, headers=LATER)
            await end("pg_terminate_backend")

        assert (await over(library.installation)).status == "completed"
        assert await library.found("trains", method="lexical") != []


async def test_a_request_that_cannot_be_read_uses_no_attempt(
    both: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, tries = both.runtime, []
    assert runtime is not None

    async def counted(runtime: Runtime, job_id: str) -> bytes:
        tries.append(job_id)
        return await read_request(runtime, job_id)

    monkeypatch.setattr(runner, "read_request", counted)
    good, runtime.database.engine = runtime.database.engine, create_engine("postgresql://nobody@127.0.0.1:9/none")
    try:
        accepted = await both.chat("x" * 5000, headers=LATER)
        assert accepted.status == 202
        await eventually(lambda: len(tries) > 3)
    finally:
        await runtime.database.engine.dispose()
        runtime.database.engine = good

    row = await over(both)
    assert (row.status, row.attempt) == ("completed", 1)
    assert [record.status for record in await both.rows(UsageRecordRow)] == ["succeeded"]


async def test_an_answer_whose_statement_the_server_cancels_is_kept(
    tmp_path: Path, redis_server: RedisServer, postgres: str, provider: ScriptedProvider
) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=postgres)
    async with open_installation(settings) as installation:
        provider.default = says("Hello!", delay_s=0.5)
        await installation.add_model("paid", provider.url, prices=PRICES)
        user_id, me = await payer(installation, 100_000)
        await installation.chat("A", model="paid", max_tokens=10, headers=me | LATER)
        async with waiting_for(postgres, f"SELECT 1 FROM users WHERE id = {user_id} FOR UPDATE") as end:
            await end("pg_cancel_backend")

        row = await over(installation)
        assert (row.status, row.attempt, len(provider.requests)) == ("completed", 1, 1)
        (charge,) = await installation.rows(ChargeRow)
        (record,) = await installation.rows(UsageRecordRow)
        assert (record.status, record.cost_micros) == ("succeeded", charge.amount_micros)


_SLOW_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status = 'in_progress' AND NEW.status = 'queued' THEN
    BEGIN PERFORM pg_sleep(10); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(1); END;
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
"""


async def test_a_planned_retry_stays_planned_if_nobody_heard_that_it_was_stored(
    tmp_path: Path, redis_server: RedisServer, postgres: str, provider: ScriptedProvider
) -> None:
    async def breaks(request: web.Request, body: Any) -> web.Response:
        return web.json_response({"error": {"message": "x"}}, status=500)

    async with open_installation(make_settings(tmp_path, redis_server, database_url=postgres)) as installation:
        provider.script = [breaks]
        await installation.add_model("m", provider.url)
        await install(postgres, _SLOW_COMMIT)
        await installation.chat("A", model="m", headers=LATER)

        row = await over(installation)
        assert (row.status, row.attempt) == ("completed", 2)


_LATE_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.end_user = 'slow' THEN
    BEGIN PERFORM pg_sleep(10); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(2.5); END;
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
"""
"""As with a disk or a synchronous standby that hangs, to give up waiting for the commit does not end it."""


async def test_a_job_that_is_committed_after_its_connection_was_given_up_does_not_run(
    tmp_path: Path, redis_server: RedisServer, postgres: str
) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=postgres, accept_patience_s=0.3)
    async with open_installation(settings) as installation:
        await install(postgres, _LATE_COMMIT)
        assert (await installation.chat("A", user="slow")).status == 503

        await eventually(lambda: is_written_again(installation), within_s=30)

        async def is_cancelled() -> bool:
            slow = await installation.rows(JobRow, JobRow.end_user == "slow")
            return [(row.status, row.attempt) for row in slow] == [("cancelled", 0)]

        await eventually(is_cancelled)


async def test_a_commit_that_hangs_for_too_long_is_ended(
    tmp_path: Path, redis_server: RedisServer, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_HANGS_S", 0.5)
    settings = make_settings(tmp_path, redis_server, database_url=postgres, accept_patience_s=0.3)
    async with open_installation(settings) as installation:
        await install(postgres, _LATE_COMMIT)
        assert (await installation.chat("A", user="slow")).status == 503

        await eventually(lambda: is_written_again(installation), within_s=30)

        assert await installation.rows(JobRow, JobRow.end_user == "slow") == []
