"""Files and batches through the stock OpenAI SDK, unmodified."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from tests.batches import chat_line, to_jsonl
from tests.installation import ADMIN_KEY, Installation
from tests.waiting import eventually


@pytest_asyncio.fixture
async def client(both: Installation) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{both.url}/v1", api_key=ADMIN_KEY, max_retries=0) as connected:
        yield connected


async def _ended(client: AsyncOpenAI, batch_id: str) -> Any:
    async def look() -> Any:
        batch = await client.batches.retrieve(batch_id)
        return batch if batch.status in ("completed", "failed", "expired", "cancelled") else None

    return await eventually(look, within_s=30)


async def test_a_batch_from_upload_to_results(client: AsyncOpenAI) -> None:
    lines = to_jsonl(*(chat_line(f"r{n}", f"Say {n}") for n in range(10)))

    file = await client.files.create(file=("in.jsonl", lines), purpose="batch")
    batch = await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "1"}
    )
    done = await _ended(client, batch.id)
    output = await client.files.content(done.output_file_id)

    assert (done.status, done.request_counts.completed, done.metadata) == ("completed", 10, {"run": "1"})
    answers = {line["custom_id"]: line for line in map(json.loads, output.text.splitlines())}
    assert set(answers) == {f"r{n}" for n in range(10)}
    assert [one.id async for one in client.batches.list(limit=1)] == [batch.id]


async def test_files_are_listed_over_pages_and_deleted(client: AsyncOpenAI) -> None:
    made = [
        await client.files.create(
            file=(f"{n}.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        for n in range(5)
    ]

    listed = [file.id async for file in client.files.list(limit=2, order="asc")]
    deleted = await client.files.delete(made[0].id)

    assert listed == [file.id for file in made]
    assert deleted.deleted
    assert (await client.files.retrieve(made[1].id)).filename == "1.jsonl"
    with pytest.raises(NotFoundError):
        await client.files.retrieve("file-nobody")


async def test_a_batch_is_cancelled_twice(client: AsyncOpenAI) -> None:
    lines = to_jsonl(*(chat_line(f"r{n}", body={"simulator": {"delay_ms": 20_000}}) for n in range(3)))
    file = await client.files.create(file=("in.jsonl", lines), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    await asyncio.sleep(0.2)

    first = await client.batches.cancel(batch.id)
    await client.batches.cancel(batch.id)
    done = await _ended(client, batch.id)

    assert first.status == "cancelling"
    assert (done.status, done.request_counts.failed) == ("cancelled", 3)


async def test_refused_inputs_name_their_lines(client: AsyncOpenAI) -> None:
    file = await client.files.create(file=("in.jsonl", to_jsonl(chat_line("a"), chat_line("a"))), purpose="batch")

    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    failed = await _ended(client, batch.id)
    with pytest.raises(BadRequestError) as caught:
        await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="1s")  # type: ignore[arg-type]

    assert (failed.errors.data[0].code, failed.errors.data[0].line) == ("duplicate_custom_id", 2)
    assert caught.value.code == "invalid_completion_window"
