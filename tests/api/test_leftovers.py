"""What processes that died leave behind is removed; what runs is left alone; on both databases."""

import asyncio
import json
from typing import Any

from aiohttp import web

from shared.chunks.tables import ChunkRow
from shared.collections.tables import CollectionRow
from shared.documents.tables import DocumentRow
from shared.jobs.tables import JobRow
from shared.usage.tables import UsageRecordRow
from tests.api.test_documents import use_provider
from tests.libraries import COLLECTIONS, Library
from tests.providers import ScriptedProvider, embeds, hangs
from tests.waiting import eventually
from worker.knowledge_sweep import sweep_documents


async def sweep(library: Library, grace_ms: int = 0) -> None:
    assert library.installation.runtime is not None
    await sweep_documents(library.installation.runtime, grace_ms)


async def test_a_cancelled_ingestion_leaves_nothing(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.script = [embeds(), embeds()]
    provider.default = hangs()
    collection = await library.collection()

    accepted = await library.upload(
        collection, "x " * 90, chunk_size=1, separators=["x"], headers={"Prefer": "respond-async"}
    )
    job = (await accepted.json())["id"]
    await eventually(lambda: provider.running == 1 and len(provider.requests) == 3)
    assert len(await library.installation.rows(ChunkRow)) == 64
    assert await library.found("x", method="lexical") == []
    await sweep(library)
    assert len(await library.installation.rows(ChunkRow)) == 64
    cancelled = await library.installation.post(f"/v1/jobs/{job}/cancel", headers=library.headers)

    assert cancelled.status == 200
    await eventually(lambda: job_is_over(library, job))
    assert await library.installation.rows(ChunkRow) == []
    await sweep(library)
    assert await library.installation.rows(DocumentRow) == []


async def job_is_over(library: Library, job_id: str) -> bool:
    return bool((await library.read(f"/v1/jobs/{job_id}"))["status"] == "cancelled")


async def test_documents_without_a_job_and_hidden_collections_are_removed(library: Library) -> None:
    collection, other = await library.collection(), await library.collection("other")
    kept = await library.document(collection, "Trains leave.")
    await library.document(other, "Bread is baked.")
    async with library.installation.state.database.transaction() as session:
        session.add(
            DocumentRow(
                collection_id=collection,
                kind="document",
                name="lost",
                status="processing",
                job_id="0" * 26,
                created_ms=1,
            )
        )
        session.add(DocumentRow(collection_id=collection, kind="document", name="gone", status="deleted", created_ms=1))
        (await session.get_one(CollectionRow, other)).surface = "deleted"

    await sweep(library, 60_000)

    assert [row.id for row in await library.installation.rows(DocumentRow)] == [kept]
    assert len(await library.installation.rows(ChunkRow)) == 1
    assert (await library.read(COLLECTIONS))["total"] == 1


async def test_what_was_embedded_for_a_collection_that_is_gone_is_on_the_books(
    library: Library, provider: ScriptedProvider
) -> None:
    goes_on = asyncio.Event()

    async def waits(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await goes_on.wait()
        return await embeds()(request, body)

    await use_provider(library, provider)
    provider.default = waits
    collection = await library.collection()
    accepted = await library.upload(collection, "Trains leave.", headers={"Prefer": "respond-async"})
    await eventually(lambda: provider.running == 1)
    deleted = await library.installation.delete(f"{COLLECTIONS}/{collection}", headers=library.headers)
    goes_on.set()

    assert deleted.status == 204, await deleted.text()
    job_id = (await accepted.json())["id"].removeprefix("job_")

    async def ended() -> JobRow | None:
        (row,) = await library.installation.rows(JobRow, JobRow.id == job_id)
        return row if row.finished_ms else None

    row = await eventually(ended)
    records = await library.installation.rows(UsageRecordRow, UsageRecordRow.job_id == job_id)
    assert (row.status, row.attempt, json.loads(row.error)["status"]) == ("failed", 1, 404)
    assert [(record.status, record.prompt_tokens) for record in records] == [("failed", 3)]
    assert len(provider.requests) == 1
