"""A caller is told 503 although his job is written after all: it is cancelled, and uses nothing."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg

from shared.admission.records import money_account, user_of
from shared.jobs.tables import JobRow
from tests.conftest import make_settings, new_postgres_database
from tests.installation import open_installation
from tests.payers import PRICES, holds, payer
from tests.servers import RedisServer
from tests.waiting import eventually

TOKENS = 104


async def test_a_job_that_was_written_late_uses_nothing(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str
) -> None:
    url = await asyncio.to_thread(new_postgres_database, postgres_url, f"t{abs(hash(str(tmp_path)))}")
    options = make_settings(tmp_path, redis_server, database_url=url, accept_patience_s=0.3)
    async with open_installation(options) as installation:
        await installation.add_model("paid", prices=PRICES)
        await installation.grant(2, tpm=10_000, rpm=10)
        user_id, me = await payer(installation, 100_000)
        later = me | {"Prefer": "respond-async"}

        async def ask() -> Any:
            return await installation.chat(
                "x" * 400, model="paid", max_tokens=10, simulator={"delay_ms": 60_000}, headers=later
            )

        assert (await ask()).status == 202
        blocker = await asyncpg.connect(url)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
            assert (await ask()).status == 503
        await blocker.close()

        async def is_cancelled() -> bool:
            return [row.status for row in await installation.rows(JobRow)].count("cancelled") == 1

        async def one_holds() -> bool:
            return len(await holds(installation, money_account(user_of(user_id)))) == 1

        await eventually(is_cancelled)
        await eventually(one_holds)
        answer = await ask()

        assert answer.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 2 * TOKENS)
        assert answer.headers["x-ratelimit-remaining-requests"] == "8"
