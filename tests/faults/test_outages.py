"""Redis or the database are away for a while: clear answers meanwhile, and everything goes on by itself afterwards."""

import asyncio
import sqlite3
from pathlib import Path

from aiohttp import ClientSession

from shared.usage.tables import ChargeRow
from tests.conftest import make_settings
from tests.faults.processes import Processes
from tests.installation import open_installation
from tests.servers import RedisServer
from tests.waiting import eventually


async def test_without_redis_no_job_is_made_and_the_service_recovers(tmp_path: Path, own_redis: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, own_redis)) as sluice:
        assert (await sluice.chat()).status == 200
        own_redis.kill()
        await eventually(lambda: not sluice.state.inbox.is_connected)

        refused = await sluice.chat()
        health = await sluice.get("/health")
        own_redis.start()
        await eventually(lambda: sluice.state.inbox.is_connected)
        answered = await sluice.chat(simulator={"text": "back"})

        assert (refused.status, (await refused.json())["error"]["code"]) == (503, "queue_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert health.status == 503
        assert (await answered.json())["choices"][0]["message"]["content"] == "back"
        assert len(await sluice.rows(ChargeRow)) == 2


async def test_a_job_that_runs_while_redis_is_away_is_answered_afterwards(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    async with open_installation(make_settings(tmp_path, own_redis)) as sluice:
        call = asyncio.ensure_future(sluice.chat(simulator={"text": "patient", "delay_ms": 700}))
        await asyncio.sleep(0.3)
        own_redis.kill()
        await asyncio.sleep(1.0)
        own_redis.start()

        answer = await (await call).json()

        assert answer["choices"][0]["message"]["content"] == "patient"
        assert len(await sluice.rows(ChargeRow)) == 1


async def test_a_locked_database_refuses_and_recovers(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    processes = Processes(folder)
    try:
        await processes.start()
        async with ClientSession(processes.url, headers=processes.headers) as http:
            body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}]}
            locker = sqlite3.connect(folder / "sluice.db", isolation_level=None)
            locker.execute("BEGIN IMMEDIATE")
            async with http.post("/v1/chat/completions", json=body) as refused:
                assert (refused.status, (await refused.json())["error"]["code"]) == (503, "storage_unavailable")
                assert refused.headers["x-should-retry"] == "true"
            locker.execute("ROLLBACK")
            locker.close()

            async def is_answered() -> bool:
                async with http.post("/v1/chat/completions", json=body) as answered:
                    return answered.status == 200

            await eventually(is_answered)  # the writer may still be busy giving up
    finally:
        await processes.close()
