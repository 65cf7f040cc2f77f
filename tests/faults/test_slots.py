"""Slots at a provider whose attempts are counted, when the worker that holds them dies."""

from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes
from tests.waiting import eventually

CHAT = {"model": "narrow", "messages": [{"role": "user", "content": "Hello"}]}


async def test_slots_of_a_killed_worker_are_free_again(folder: Path) -> None:
    processes = Processes(folder, workers=1)
    try:
        await processes.start()
        async with ClientSession(processes.url, headers=processes.headers) as http:
            await add_narrow_model(http)
            holders = [await hold_a_slot(http) for _ in range(2)]
            for job_id in holders:
                await eventually(partial(has_status, http, job_id, "in_progress"))

            processes.kill("-m worker")

            async with http.post("/v1/chat/completions", json=CHAT) as response:
                assert response.status == 200, await response.text()
                following = response.headers["x-job-id"]
            for job_id in holders:
                await eventually(partial(has_status, http, job_id, "failed"))
        await check_ledger(processes, [*holders, following])
    finally:
        await processes.close()


async def add_narrow_model(http: ClientSession) -> None:
    """Create a model whose only provider takes two attempts at once."""
    async with http.post("/v1/admin/routers", json={"name": "narrow", "type": "text-generation"}) as response:
        router = (await response.json())["id"]
    limit = {"qos_metric": "inflight", "qos_limit": 2}
    provider = {"router": router, "type": "simulator", "model_name": "narrow"} | limit
    async with http.post("/v1/admin/providers", json=provider) as response:
        assert response.status == 201, await response.text()


async def hold_a_slot(http: ClientSession) -> str:
    """Send a job that runs for a minute, and not again should its worker die; returns its id."""
    body: dict[str, Any] = CHAT | {"simulator": {"delay_ms": 60_000}}
    job = {"endpoint": "/v1/chat/completions", "body": body, "on_worker_lost": "fail"}
    async with http.post("/v1/jobs", json=job) as response:
        assert response.status == 202, await response.text()
        return str((await response.json())["id"])


async def has_status(http: ClientSession, job_id: str, status: str) -> bool:
    async with http.get(f"/v1/jobs/{job_id}") as response:
        return bool((await response.json())["status"] == status)
