"""Searches and ingestions beside what all jobs have: /v1/jobs, batches, retries, idempotency keys, webhooks."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from shared.clock import now_ms
from shared.documents.tables import DocumentRow
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.api.test_chat_search import CHAT, RAG, store, talker, tool
from tests.api.test_documents import use_provider
from tests.batches import chat_line, send_batch, to_jsonl
from tests.conftest import make_settings
from tests.libraries import EMBEDDER, Library, open_library
from tests.providers import ScriptedProvider, embeds, fails, says
from tests.receivers import Receiver
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.webhooks import LOOPBACK, add_endpoint

JOBS = "/v1/jobs"
QUESTION = {"model": "talker", "messages": [{"role": "user", "content": "When do trains leave?"}]}


async def send(library: Library, path: str, body: Any, **headers: str) -> Any:
    return await library.installation.post(path, body, headers=library.headers | headers)


async def ended(library: Library, job_id: str) -> Any:
    """Return the job when it is over."""

    async def look() -> Any:
        job = await library.read(f"{JOBS}/{job_id}")
        return job if job["status"] in ("completed", "failed") else None

    return await eventually(look)


async def test_a_search_sent_as_a_job_is_made_at_once(library: Library, provider: ScriptedProvider) -> None:
    await talker(library, provider)
    await library.document(await library.collection(), "Trains leave every hour.")
    later = now_ms() // 1000 + 3600

    response = await send(
        library, JOBS, {"endpoint": CHAT, "body": QUESTION | tool(), "not_before": later, "metadata": {"run": "1"}}
    )

    job = await response.json()
    assert (response.status, job["kind"], job["status"]) == (202, "chat.completion", "queued")
    rows = {row.id: row for row in await library.installation.rows(JobRow)}
    (chat,) = [row for row in rows.values() if row.kind == "chat.completion"]
    (query,) = [row for row in rows.values() if row.kind == "embedding"]
    assert b"<document number=" in chat.request
    assert (query.status, query.not_before_ms, query.metadata_) == ("completed", None, None)


async def test_a_rag_chat_can_be_sent_as_a_job(library: Library, provider: ScriptedProvider) -> None:
    await talker(library, provider)
    store_id = await store(library, "Trains leave every hour.")

    job = await (await send(library, JOBS, {"endpoint": RAG, "body": QUESTION | {"collection": store_id}})).json()

    assert (await ended(library, job["id"]))["status"] == "completed"
    result = await library.read(f"{JOBS}/{job['id']}/result")
    assert len(result["retrieval"]["results"]) == 1


async def test_a_failed_chat_is_sent_again_with_what_was_found(library: Library, provider: ScriptedProvider) -> None:
    await talker(library, provider)
    store_id = await store(library, "Trains leave every hour.")
    for path, members in ((CHAT, tool(method="lexical")), (RAG, {"collection": store_id})):
        provider.default = fails(400, "No.")
        failed = await send(library, path, QUESTION | members)
        before, calls = len(await library.installation.rows(JobRow)), len(provider.requests)
        provider.default = says("Every hour.")

        again = await send(library, f"{JOBS}/{failed.headers['x-job-id']}/retry", None)

        assert (failed.status, again.status) == (400, 202)
        job = await ended(library, (await again.json())["id"])
        assert (job["status"], job["endpoint"]) == ("completed", path)
        assert provider.requests[calls:] == [provider.requests[calls - 1]]
        assert len(await library.installation.rows(JobRow)) == before + 1


async def test_an_ingestion_is_not_sent_again(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.default = fails(400, "No.")
    failed = await library.upload(await library.collection(), "Hello")

    response = await send(library, f"{JOBS}/{failed.headers['x-job-id']}/retry", None)

    assert (response.status, (await response.json())["error"]["code"]) == (409, "job_not_retryable")


async def test_what_a_failed_ingestion_consumed_is_recorded(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.script, provider.default = [embeds(), embeds()], fails(400, "No.")

    response = await library.upload(await library.collection(), "x " * 90, chunk_size=1, separators=["x"])

    assert response.status == 400
    [record] = await library.installation.rows(UsageRecordRow)
    [charge] = await library.installation.rows(ChargeRow)
    assert (record.status, record.prompt_tokens, charge.amount_micros) == ("failed", 3 * 64, 0)


async def test_a_store_that_is_out_of_order_is_not_the_models_fault(
    library: Library, provider: ScriptedProvider
) -> None:
    jobs = Path(library.installation.state.settings.data_dir) / "files" / "jobs"

    async def lose_the_store(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.to_thread(jobs.rename, jobs.with_name("elsewhere"))
        jobs.write_text("in the way")
        return web.json_response({}, status=500)

    await use_provider(library, provider)
    provider.script = [lose_the_store]

    response = await library.upload(await library.collection(), "Trains leave every hour.")

    assert (response.status, (await response.json())["error"]["code"]) == (503, "storage_unavailable")
    assert await library.installation.rows(DocumentRow) == []


async def test_a_line_of_a_batch_cannot_search(library: Library) -> None:
    data = to_jsonl(chat_line("fine"), chat_line("search", body=tool()))

    batch = await (await send_batch(library.installation, data, headers=library.headers)).json()

    async def refused() -> Any:
        found = await library.read(f"/v1/batches/{batch['id']}")
        return found["errors"] if found["status"] == "failed" else None

    [error] = (await eventually(refused))["data"]
    assert (error["line"], error["code"], error["param"]) == (2, "invalid_request", "body.tools")
    assert await library.installation.rows(JobRow) == []


async def test_what_was_found_is_no_parameter_of_a_provider(library: Library, provider: ScriptedProvider) -> None:
    await library.installation.add_model("talker", provider.url, type="mistral")
    provider.default = says("Every hour.")
    await library.document(await library.collection(), "Trains leave every hour.")

    response = await send(library, CHAT, QUESTION | tool(), Prefer="handling=strict")

    answer = await response.json()
    assert (response.status, len(answer["search_results"])) == (200, 1), answer
    assert "x-sluice-dropped-params" not in response.headers
    assert provider.requests[0].keys() == {"model", "messages"}


async def test_a_file_that_is_sent_again_with_its_key_is_the_same_document(library: Library) -> None:
    collection = await library.collection()
    key = {"Idempotency-Key": "one"}

    first = await library.upload(collection, "Trains leave every hour.", headers=key)
    again = await library.upload(collection, "Trains leave every hour.", headers=key)
    other = await library.upload(collection, "Bread.", headers=key)

    assert (first.status, again.status, other.status) == (201, 201, 422)
    assert await first.json() == await again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await other.json())["error"]["code"] == "idempotency_key_reused"
    assert len(await library.installation.rows(DocumentRow)) == 1


async def test_the_end_of_an_ingestion_is_told(tmp_path: Path, redis_server: RedisServer, receiver: Receiver) -> None:
    settings = make_settings(tmp_path, redis_server, vector_store_model=EMBEDDER, **LOOPBACK)
    async with open_library(settings) as library:
        await add_endpoint(library.installation, receiver, "job.completed", as_=library.headers)

        response = await library.upload(await library.collection(), "Trains leave every hour.")

        await eventually(lambda: len(receiver.received) == 1)
    data = receiver.received[0].body["data"]
    assert (data["id"], data["kind"]) == (response.headers["x-job-id"], "ingestion")
