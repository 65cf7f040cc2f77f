"""Batches while processes die: every line is answered once, in exactly one of the two files."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from aiohttp import ClientError, ClientSession, FormData

from shared.batches.tables import BatchRow
from tests.batches import chat_line, to_jsonl
from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes, rows
from tests.faults.test_webhooks import add_endpoint
from tests.receivers import Receiver
from tests.waiting import eventually

LINES = 400


async def ask(http: ClientSession, processes: Processes, path: str) -> Any:
    """Return the JSON answer; None while the api is away."""
    with suppress(ClientError, OSError, asyncio.TimeoutError):
        async with http.get(processes.url + path, headers=processes.headers) as response:
            return await response.json()
    return None


async def send_batch(http: ClientSession, processes: Processes, lines: list[dict[str, Any]], **members: Any) -> str:
    """Upload the lines and make a batch of them; returns its id."""
    form = FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", to_jsonl(*lines), filename="in.jsonl")
    async with http.post(processes.url + "/v1/files", data=form, headers=processes.headers) as response:
        assert response.status == 200, await response.text()
        file_id = (await response.json())["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | members
    async with http.post(processes.url + "/v1/batches", json=body, headers=processes.headers) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["id"])


async def until_ended(http: ClientSession, processes: Processes, batch_id: str) -> Any:
    async def look() -> Any:
        batch = await ask(http, processes, f"/v1/batches/{batch_id}")
        return batch if batch is not None and batch["status"] in ("completed", "cancelled", "expired") else None

    return await eventually(look, within_s=50)


async def ids_in(http: ClientSession, processes: Processes, file_id: str | None) -> list[str]:
    """Return the custom_ids of a file, in its order."""
    if file_id is None:
        return []
    async with http.get(f"{processes.url}/v1/files/{file_id}/content", headers=processes.headers) as response:
        return [json.loads(line)["custom_id"] for line in (await response.text()).splitlines()]


async def progress(http: ClientSession, processes: Processes, batch_id: str, least: int) -> bool:
    batch = await ask(http, processes, f"/v1/batches/{batch_id}")
    return batch is not None and batch["request_counts"]["completed"] >= least


async def test_every_line_is_answered_and_told_once_whatever_dies(telling: Processes, receiver: Receiver) -> None:
    await add_endpoint(telling, receiver, "job.completed", "batch.completed")
    lines = [chat_line(f"r{n}", body={"simulator": {"delay_ms": 300, "tokens": 5}}) for n in range(LINES)]
    async with ClientSession() as http:
        batch_id = await send_batch(http, telling, lines, item_events=True)
        telling.kill("-m api")  # while it reads the lines, or puts them into the queue
        await eventually(lambda: progress(http, telling, batch_id, 1), within_s=40)
        telling.kill("-m worker")
        await eventually(lambda: progress(http, telling, batch_id, LINES // 4), within_s=40)
        with telling.redis() as redis:
            redis.flushall()
        await eventually(lambda: telling.children("-m worker"))
        telling.kill("-m worker")

        done = await until_ended(http, telling, batch_id)

        assert (done["status"], done["request_counts"]) == (
            "completed", {"total": LINES, "completed": LINES, "failed": 0},
        )  # fmt: skip
        names = [f"r{n}" for n in range(LINES)]
        assert await ids_in(http, telling, done["output_file_id"]) == names
    await eventually(lambda: len(told_of(receiver)) == LINES + 1, within_s=60)
    assert told_of(receiver) == {*names, batch_id}
    assert len({one.id for one in receiver.received}) == LINES + 1  # a repeated try has the id of the first one
    await check_ledger(telling)


def told_of(receiver: Receiver) -> set[str]:
    """Return the lines, and the batch, whose end was told."""
    return {one.body["data"].get("custom_id") or one.body["data"]["id"] for one in receiver.received}


async def test_a_cancelled_batch_adds_up_whatever_dies(processes: Processes) -> None:
    lines = [chat_line(f"r{n}", body={"simulator": {"delay_ms": 400, "tokens": 5}}) for n in range(LINES)]
    async with ClientSession() as http:
        batch_id = await send_batch(http, processes, lines)
        await eventually(lambda: progress(http, processes, batch_id, 1), within_s=40)
        async with http.post(f"{processes.url}/v1/batches/{batch_id}/cancel", headers=processes.headers) as response:
            assert response.status == 200
        processes.kill("-m worker")

        done = await until_ended(http, processes, batch_id)

        output = await ids_in(http, processes, done["output_file_id"])
        errors = await ids_in(http, processes, done["error_file_id"])
        assert done["status"] == "cancelled"
        assert sorted(output + errors) == sorted(f"r{n}" for n in range(LINES))
        assert errors
    await check_ledger(processes)


async def test_a_key_makes_one_batch_although_the_api_dies_before_it_answers(processes: Processes) -> None:
    inline = {"requests": [chat_line("a")], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    async with ClientSession(processes.url, headers=processes.headers | {"Idempotency-Key": "once"}) as http:

        async def create() -> Any:
            with suppress(ClientError, OSError, asyncio.TimeoutError):
                async with http.post("/v1/batches", json=inline) as response:
                    return response.status, response.headers.get("Idempotency-Replayed"), await response.json()
            return None

        processes.arm("after_made")
        assert await create() is None
        status, replayed, batch = await eventually(create, within_s=30)

        assert (status, replayed) == (200, "true")
        await until_ended(http, processes, batch["id"])
    assert [f"batch_{row.id}" for row in await rows(processes, BatchRow)] == [batch["id"]]
    await check_ledger(processes)
