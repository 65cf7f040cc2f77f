"""What processes that died leave behind is removed; what runs is left alone; on both databases."""

from shared.chunks.tables import ChunkRow
from shared.collections.tables import CollectionRow
from shared.documents.tables import DocumentRow
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
