"""A caller is told 503 although his job is written after all: it is cancelled, uses nothing, and he can try again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.admission.records import money_account, user_of
from shared.jobs.tables import JobRow
from shared.settings import Settings
from tests.conftest import make_settings, name_after, new_postgres_database
from tests.databases import prepared_postgres
from tests.installation import Installation, open_installation
from tests.payers import PRICES, holds, payer
from tests.servers import RedisServer
from tests.waiting import eventually

TOKENS = 104


async def ask_too_early(url: str, ask: Callable[[], Awaitable[Any]]) -> None:
    """Have the first commit of this request come too late for its caller."""
    blocker = await asyncpg.connect(url)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
        assert (await ask()).status == 503
    await blocker.close()


async def are_cancelled(installation: Installation, count: int) -> bool:
    return [row.status for row in await installation.rows(JobRow)].count("cancelled") == count


@pytest.fixture
def late(tmp_path: Path, redis_server: RedisServer, postgres_url: str) -> Iterator[Settings]:
    with prepared_postgres(postgres_url, name_after(tmp_path)) as url:
        yield make_settings(tmp_path, redis_server, database_url=url, accept_patience_s=0.3)


@pytest.mark.parametrize("headers", [{"x-stainless-retry-count": "1"}, {"Idempotency-Key": "k"}])
async def test_whoever_was_told_503_gets_an_answer_when_he_tries_again(late: Settings, headers: dict[str, str]) -> None:
    """As a stock client does, at once."""
    async with open_installation(late) as installation:
        await ask_too_early(late.effective_database_url(), lambda: installation.chat("A", headers=headers))

        async def is_answered() -> bool:
            answer = await installation.chat("A", headers=headers)
            assert answer.status in (200, 503), await answer.text()
            return bool(answer.status == 200)

        await eventually(is_answered)
        await eventually(lambda: are_cancelled(installation, 1))
        assert sorted(row.status for row in await installation.rows(JobRow)) == ["cancelled", "completed"]


async def test_a_job_whose_retry_was_withdrawn_can_be_retried(late: Settings) -> None:
    async with open_installation(late) as installation:
        failed = await installation.chat("A", simulator={"fail": "400"})
        retry = f"/v1/jobs/{failed.headers['x-job-id']}/retry"
        await ask_too_early(late.effective_database_url(), lambda: installation.post(retry))
        await eventually(lambda: are_cancelled(installation, 1))

        again = await installation.post(retry)

        assert again.status == 202, await again.text()
        assert (await installation.job((await again.json())["id"]))["retry_of"] == failed.headers["x-job-id"]


async def test_a_job_that_was_written_late_uses_nothing(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str
) -> None:
    url = await asyncio.to_thread(new_postgres_database, postgres_url, f"t{abs(hash(str(tmp_path)))}")
    options = make_settings(tmp_path, redis_server, database_url=url, accept_patience_s=0.3)
    async with open_installation(options) as installation:
        made = await installation.add_model("paid", prices=PRICES)
        await installation.grant(made["router_id"], tpm=10_000, rpm=10)
        user_id, me = await payer(installation, 100_000)
        later = me | {"Prefer": "respond-async"}

        async def ask() -> Any:
            return await installation.chat(
                "x" * 400, model="paid", max_tokens=10, simulator={"delay_ms": 60_000}, headers=later
            )

        assert (await ask()).status == 202
        await ask_too_early(url, ask)

        async def one_holds() -> bool:
            return len(await holds(installation, money_account(user_of(user_id)))) == 1

        await eventually(lambda: are_cancelled(installation, 1))
        await eventually(one_holds)
        answer = await ask()

        assert answer.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 2 * TOKENS)
        assert answer.headers["x-ratelimit-remaining-requests"] == "8"
