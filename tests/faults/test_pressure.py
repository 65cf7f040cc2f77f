"""When there is more to do than can be done: refuse at once, and harm nobody else."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web

from shared.group_commit.units import Result, Store, StoreUnavailableError, Unit
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.providers import ScriptedProvider
from tests.servers import RedisServer
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}


@pytest_asyncio.fixture
async def impatient(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Installation]:
    """An installation without workers that does not wait for its database."""
    settings = make_settings(tmp_path, redis_server, accept_patience_s=0.08)
    async with open_installation(settings, workers=False) as installation:
        yield installation


@pytest_asyncio.fixture
async def small(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Installation]:
    """An installation without workers that has room for few jobs and callers."""
    settings = make_settings(tmp_path, redis_server, max_queued=20, max_waiting=3)
    async with open_installation(settings, workers=False) as installation:
        yield installation


async def test_a_locked_database_refuses_with_503_and_stores_nothing(impatient: Installation) -> None:
    locker = sqlite3.connect(impatient.state.settings.data_path / "sluice.db", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")

    refused = await asyncio.gather(*(impatient.chat(headers=ASYNC) for _ in range(10)))
    writer: Any = impatient.state.writer
    await eventually(lambda: writer._writer is None)  # until it gives up, it is in doubt what becomes of the jobs
    locker.execute("ROLLBACK")

    assert {response.status for response in refused} == {503}
    assert {(await response.json())["error"]["code"] for response in refused} == {"storage_unavailable"}
    assert all(response.headers["retry-after"] == "1" for response in refused)
    assert await impatient.rows(JobRow) == []
    await eventually(lambda: is_accepted(impatient))
    locker.close()


async def is_accepted(sluice: Installation) -> bool:
    return bool((await sluice.chat(headers=ASYNC)).status == 202)


class UncertainStore:
    """Writes, and then says that it does not know whether it did: a connection that broke at the wrong moment."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_uncertain = True

    async def commit(self, units: Sequence[Unit], *, durable: bool) -> list[list[Result]]:
        results = await self.store.commit(units, durable=durable)
        if self.is_uncertain:
            self.is_uncertain = False
            raise StoreUnavailableError("connection lost")
        return results

    async def close(self) -> None:
        await self.store.close()


async def test_a_job_whose_caller_was_told_503_is_neither_run_nor_charged(sluice: Installation) -> None:
    writer: Any = sluice.state.writer
    writer._store = UncertainStore(writer._store)

    response = await sluice.chat()

    assert response.status == 503
    job = (await eventually(lambda: sluice.rows(JobRow, JobRow.finished_ms.is_not(None))))[0]  # type: ignore[union-attr]
    charge = (await sluice.rows(ChargeRow))[0]
    assert (job.status, job.attempt, charge.amount_micros) == ("cancelled", 0, 0)


async def test_a_full_queue_refuses_until_there_is_room(small: Installation) -> None:
    accepted = [await small.chat(headers=ASYNC) for _ in range(20)]
    assert {response.status for response in accepted} == {202}

    refusal = await eventually(lambda: is_refused(small))
    assert refusal["error"]["code"] == "overloaded"
    await eventually(lambda: are_cancelled(small))
    await eventually(lambda: is_accepted(small))


async def are_cancelled(sluice: Installation) -> bool:
    """Cancel what waits."""
    for job in await sluice.rows(JobRow, JobRow.finished_ms.is_(None)):  # type: ignore[union-attr]
        await sluice.post(f"/v1/jobs/job_{job.id}/cancel")
    return not await sluice.rows(JobRow, JobRow.finished_ms.is_(None))  # type: ignore[union-attr]


async def is_refused(sluice: Installation) -> Any:
    response = await sluice.chat(headers=ASYNC)
    return await response.json() if response.status == 503 else None


async def test_more_callers_than_may_wait_are_refused(small: Installation) -> None:
    waiting = [asyncio.ensure_future(small.chat()) for _ in range(3)]
    await eventually(lambda: small.state.inbox.waiting == 3)

    refused = await small.chat()

    assert refused.status == 503
    assert refused.headers["retry-after"] == "5"
    assert (await small.chat(headers=ASYNC)).status == 202
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_slow_provider_leaves_slots_to_the_others(
    tmp_path: Path, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    async def hang(_request: web.Request, _body: Any) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    provider.default = hang
    async with open_installation(make_settings(tmp_path, redis_server, worker_slots=8, drain_s=0.1)) as sluice:
        await sluice.add_model("slow", provider.url)
        await asyncio.gather(*(sluice.chat(model="slow", headers=ASYNC) for _ in range(40)))
        await eventually(lambda: provider.running >= 4)

        answers = [await sluice.chat(f"{n}") for n in range(5)]

        assert [answer.status for answer in answers] == [200] * 5
        assert provider.running <= 6


async def test_batch_work_leaves_slots_to_callers_who_wait(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = make_settings(tmp_path, redis_server, worker_slots=8, drain_s=0.1)
    async with open_installation(settings) as sluice:
        slow = {"delay_ms": 30_000}
        await asyncio.gather(*(sluice.chat(simulator=slow, headers=ASYNC) for _ in range(40)))
        await sluice.add_model("other")

        answers = [await sluice.chat(f"{n}", model="other") for n in range(5)]

        assert [answer.status for answer in answers] == [200] * 5


async def test_ten_thousand_queued_jobs_of_one_tenant_delay_another_by_a_few(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    settings = make_settings(tmp_path, redis_server, worker_slots=4, drain_s=0.1)
    async with open_installation(settings, workers=False) as sluice:
        key = await (await sluice.post("/v1/admin/tokens", {"name": "other", "user": 2})).json()
        for _ in range(20):
            responses = await asyncio.gather(*(sluice.chat(headers=ASYNC) for _ in range(500)))
            assert {response.status for response in responses} == {202}
        single = await sluice.chat(headers=ASYNC | {"Authorization": f"Bearer {key['token']}"})
    async with open_installation(settings) as sluice:
        rows = await eventually(lambda: finished(sluice, single.headers["x-job-id"]), within_s=30)

        before = await sluice.rows(JobRow, JobRow.started_ms < rows[0].started_ms)  # type: ignore[operator]
        assert len(before) <= 20


async def finished(sluice: Installation, job_id: str) -> list[JobRow]:
    ulid = job_id.removeprefix("job_")
    return await sluice.rows(JobRow, JobRow.id == ulid, JobRow.finished_ms.is_not(None))  # type: ignore[union-attr]
