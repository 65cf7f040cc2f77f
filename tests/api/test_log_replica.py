"""SLUICE_LOG_DATABASE_URL: request logs and usage reports come from a real standby, which follows, hangs and dies."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from tests.conftest import make_settings, name_after
from tests.databases import prepared_postgres, url_of
from tests.installation import Installation, open_installation
from tests.people import ORGANIZATIONS, add_user, changed, create, key_of
from tests.servers import PostgresServer, RedisServer

LOGS: Final = "/v1/request_logs"
LOG_ROUTES: Final = (LOGS, "/v1/usage/report", "/v1/admin/usage/report")
FILE: Final = {"Accept": "application/x-ndjson"}
WITHIN_S: Final = 20.0
NOBODY: Final = f"{LOGS}/log_01arz3ndektsv4rrffq69g5fav"


@pytest.fixture(scope="module")
def standby(own_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server that follows `own_postgres`; a test that kills it starts it again."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server may run as another user
        server = own_postgres.open_standby(Path(folder))
        yield server
        server.close()


@pytest.fixture
def own_prepared_url(own_postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """A database that is ready to serve, on the server that is followed."""
    with prepared_postgres(own_postgres.url, name_after(tmp_path)) as url:
        yield url


@pytest_asyncio.fixture
async def replicated(
    tmp_path: Path, redis_server: RedisServer, own_prepared_url: str, standby: PostgresServer
) -> AsyncIterator[Installation]:
    """A running installation that reads its logs from the standby."""
    replica = url_of(standby.url, name_after(tmp_path))
    settings = make_settings(tmp_path, redis_server, database_url=own_prepared_url, log_database_url=replica)
    async with open_installation(settings) as installation:
        await eventually(installation, LOGS, lambda page: page["data"] == [])
        yield installation


async def eventually(installation: Installation, path: str, is_so: Any, **options: Any) -> Any:
    """Return the answer once it is so: a replica lags."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        response = await installation.get(path, **options)
        answer = await response.json()
        if response.status == 200 and is_so(answer):
            return answer
        assert time.monotonic() < deadline, (response.status, answer)
        await asyncio.sleep(0.05)


async def statuses(installation: Installation) -> list[tuple[int, str]]:
    """Return status and error code of every route that reads logs."""
    asked = [installation.get(path) for path in (*LOG_ROUTES, NOBODY)]
    answers = await asyncio.gather(*asked, installation.get(LOGS, headers=FILE))
    return [(answer.status, (await answer.json()).get("error", {}).get("code")) for answer in answers]


async def test_the_log_of_a_chat_comes_through_the_replica(replicated: Installation) -> None:
    chat = await replicated.chat()
    assert chat.status == 200

    (row,) = (await eventually(replicated, LOGS, lambda page: page["data"] != []))["data"]

    assert (row["job_id"], row["status"]) == (chat.headers["x-job-id"], "completed")
    shown = await eventually(replicated, f"{LOGS}/{row['id']}?include=request", lambda log: log["id"] == row["id"])
    assert shown["request"]["messages"][0]["content"] == "Hello"
    file = await replicated.get(LOGS, headers=FILE)
    assert (await file.json(content_type=None))["id"] == row["id"]
    report = await eventually(replicated, "/v1/admin/usage/report", lambda page: page["total"]["requests"] == 1)
    assert report["total"]["prompt_tokens"] == row["prompt_tokens"]


async def test_the_replica_is_what_is_read(replicated: Installation, standby: PostgresServer) -> None:
    await replicated.chat()
    await eventually(replicated, LOGS, lambda page: page["data"] != [])
    await execute(standby, "SELECT pg_wal_replay_pause()")
    try:
        await replicated.chat()
        rows = (await (await replicated.get(LOGS)).json())["data"]
    finally:
        await execute(standby, "SELECT pg_wal_replay_resume()")

    assert len(rows) == 1
    await eventually(replicated, LOGS, lambda page: len(page["data"]) == 2)


async def test_what_may_be_shown_is_decided_by_the_database(replicated: Installation, standby: PostgresServer) -> None:
    organization = await create(replicated, ORGANIZATIONS, name="o", content_policy="full")
    user = await add_user(replicated, role=1, organization=organization["id"])
    await replicated.chat(headers=await key_of(replicated, user["id"]))
    (row,) = (await eventually(replicated, LOGS, lambda page: page["data"] != []))["data"]
    await execute(standby, "SELECT pg_wal_replay_pause()")
    try:
        await changed(replicated, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "metadata"})
        shown = await (await replicated.get(f"{LOGS}/{row['id']}?include=request")).json()
    finally:
        await execute(standby, "SELECT pg_wal_replay_resume()")

    assert shown["request"] is None


async def test_without_its_replica_logs_are_503_and_chats_go_on(
    replicated: Installation, standby: PostgresServer
) -> None:
    await asyncio.to_thread(standby.kill)
    try:
        chat = await replicated.chat()
        found = await statuses(replicated)
        month = await replicated.get("/v1/me/usage")
    finally:
        await asyncio.to_thread(standby.start)

    assert found == [(503, "logs_unavailable")] * 5
    assert (chat.status, month.status) == (200, 200)
    await eventually(replicated, LOGS, lambda page: len(page["data"]) == 1)


async def test_a_replica_that_hangs_keeps_nobody_waiting_for_long(
    replicated: Installation, standby: PostgresServer
) -> None:
    standby.pause()
    try:
        reading = asyncio.ensure_future(statuses(replicated))
        chat = await replicated.chat()
        found = await reading
    finally:
        standby.go_on()

    assert found == [(503, "logs_unavailable")] * 5
    assert chat.status == 200
    await eventually(replicated, LOGS, lambda page: len(page["data"]) == 1)


async def execute(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server.url)
    await connection.execute(statement)
    await connection.close()
