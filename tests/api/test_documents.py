"""Documents: files become chunks that are found, or nothing remains; on both databases."""

import asyncio
import json
from typing import Any

import pytest

from shared.chunks.tables import ChunkRow
from shared.documents.tables import DocumentRow
from shared.files.store import FileGoneError
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.installation import Installation
from tests.libraries import DOCUMENTS, Library, new_library
from tests.people import refused
from tests.providers import ScriptedProvider, embeds, fails

TEXT = "# Trains\n\nTrains leave every hour.\n\n# Bread\n\nBread is baked at night."


async def test_a_file_is_found_at_once_and_gone_when_it_is_deleted(library: Library) -> None:
    collection = await library.collection()
    response = await library.upload(collection, TEXT, "a.md", "text/markdown", chunk_size=40, metadata='{"year": 1911}')

    created = await response.json()
    assert response.status == 201
    assert created == {
        "id": created["id"], "name": "a.md", "collection_id": collection, "created": created["created"], "chunks": 2,
        "object": "document",
    }  # fmt: skip
    assert await library.found("When do trains leave?", limit=1) == [(created["id"], 0)]
    chunks = (await library.read(f"{DOCUMENTS}/{created['id']}/chunks"))["data"]
    assert [chunk["content"] for chunk in chunks] == ["# Trains\n\nTrains leave every hour.", TEXT[TEXT.index("# B") :]]
    assert chunks[0]["metadata"] == {"year": 1911}
    assert chunks[0]["page"] is None

    assert await library.delete(f"{DOCUMENTS}/{created['id']}") == 204
    assert await library.found("When do trains leave?") == []
    assert await library.found("trains", method="lexical") == []
    assert await library.installation.rows(ChunkRow) == []
    job = (await library.installation.rows(JobRow, JobRow.kind == "ingestion"))[0]
    with pytest.raises(FileGoneError):
        await library.installation.state.files.read(job.id)


async def test_an_ingestion_is_a_job_with_usage_and_charge(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider, prices=(2, 0))
    provider.default = embeds(reported={"prompt_tokens": 70, "total_tokens": 70})
    collection = await library.collection()

    response = await library.upload(collection, "x " * 60, chunk_size=1, separators=["x"])

    assert (await response.json())["chunks"] == 60
    assert [len(body["input"]) for body in provider.requests] == [32, 28]
    job = await library.read(f"/v1/jobs/{response.headers['x-job-id']}")
    assert (job["kind"], job["status"], job["endpoint"]) == ("ingestion", "completed", "/v1/documents")
    assert job["usage"]["prompt_tokens"] == 140
    [charge] = await library.installation.rows(ChargeRow, ChargeRow.kind == "ingestion")
    assert charge.amount_micros == 280
    document = (await library.installation.rows(DocumentRow))[0]
    assert document.tokens == 140


async def use_provider(library: Library, provider: ScriptedProvider, **members: Any) -> None:
    """Let a scripted server make the vectors, instead of the simulator."""
    installation = library.installation
    routers = (await (await installation.get("/v1/admin/routers?limit=100")).json())["data"]
    router = next(one["id"] for one in routers if one["name"] == "simulator-embedding")
    prices = members.pop("prices", (0, 0))
    changes = {"cost_prompt_tokens": prices[0], "cost_completion_tokens": prices[1]}
    assert (await installation.patch(f"/v1/admin/routers/{router}", changes)).status == 200
    for one in (await (await installation.get(f"/v1/admin/providers?router={router}")).json())["data"]:
        assert (await installation.delete(f"/v1/admin/providers/{one['id']}")).status == 200
    await installation.add_provider(router, provider.url, **members)
    assert installation.runtime is not None
    await installation.runtime.directory.refresh()
    await installation.state.directory.refresh()


async def test_a_provider_that_takes_few_texts_gets_few(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.default = embeds(most=8)
    collection = await library.collection()

    response = await library.upload(collection, "x " * 60, chunk_size=1, separators=["x"])

    assert (response.status, (await response.json())["chunks"]) == (201, 60)


async def test_a_failed_ingestion_leaves_nothing(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.script = [embeds(), embeds(), fails(400, "No.")]
    provider.default = fails(400, "No.")
    collection = await library.collection()

    response = await library.upload(collection, "x " * 90, chunk_size=1, separators=["x"])

    assert (response.status, (await response.json())["error"]["code"]) == (400, "provider_rejected_request")
    assert (await library.read(DOCUMENTS))["total"] == 0
    assert await library.installation.rows(ChunkRow) == []
    assert await library.installation.rows(DocumentRow) == []


async def test_so_does_one_that_was_refused_with_nul(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.default = fails(400, "N\x00o.")

    response = await library.upload(await library.collection(), "Hello")

    assert (response.status, (await response.json())["error"]["message"]) == (400, "No.")
    assert len(provider.requests) == 1
    assert await library.installation.rows(DocumentRow) == []


async def test_a_provider_that_is_out_of_order_is_503(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.default = fails(401, "Wrong key.")
    collection = await library.collection()

    response = await library.upload(collection, "Hello")

    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (503, "vectorization_failed")
    assert error["message"].startswith("Vectorization failed: ")
    assert await library.installation.rows(DocumentRow) == []


async def test_vectors_of_another_size_are_refused(library: Library, provider: ScriptedProvider) -> None:
    collection, other = await library.collection(), await library.collection("other")
    await library.document(collection, "Hello")
    size = (await library.installation.rows(DocumentRow))[0]
    assert size.chunks == 1
    await use_provider(library, provider)
    provider.default = embeds()

    upload = await library.upload(collection, "Hello again")
    named = await library.search("Hello", collection_ids=[collection])
    fine = await library.upload(other, "Hello again")

    assert (upload.status, (await upload.json())["error"]["code"]) == (403, "inconsistent_model")
    assert (named.status, (await named.json())["error"]["code"]) == (403, "inconsistent_model")
    assert fine.status == 201
    assert {document for document, _ in await library.found("Hello")} == {(await fine.json())["id"]}


async def test_the_same_file_is_not_taken_twice(library: Library) -> None:
    collection = await library.collection()

    first = await library.document(collection, TEXT, "a.md")
    second = await library.document(collection, TEXT, "a.md")
    others = [
        await library.document(collection, TEXT, "a.md", chunk_size=30),
        await library.document(collection, TEXT, "a.md", metadata='{"a": 1}'),
        await library.document(collection, TEXT, "b.md"),
        await library.document(await library.collection(), TEXT, "a.md"),
    ]

    assert first == second
    assert len({first, *others}) == 5
    assert len(await library.installation.rows(JobRow, JobRow.kind == "ingestion")) == 5


async def test_an_empty_document_takes_chunks(library: Library) -> None:
    collection = await library.collection()
    response = await library.upload(collection, None, metadata='{"ignored": 1}', title=" notes ")
    document = (await response.json())["id"]
    path = f"{DOCUMENTS}/{document}/chunks"

    first = await post(
        library, path, {"chunks": [{"content": "Trains leave.", "metadata": {"n": 1}}, {"content": "b"}]}
    )
    deleted = await library.delete(f"{path}/1")
    second = await post(library, path, {"chunks": [{"content": "Bread is baked."}]})

    assert (response.status, (await response.json())["name"]) == (201, "notes")
    assert await first.json() == {"document_id": document, "ids": [0, 1]}
    assert (deleted, await second.json()) == (204, {"document_id": document, "ids": [2]})
    page = await library.read(path)
    assert [(one["id"], one["content"], one["metadata"]) for one in page["data"]] == [
        (0, "Trains leave.", {"n": 1}), (2, "Bread is baked.", None),
    ]  # fmt: skip
    assert page["total"] == 2
    assert await library.found("bread", method="lexical") == [(document, 2)]
    for spelling in (path, f"/v1/chunks/{document}"):
        assert (await library.read(f"{spelling}/2"))["content"] == "Bread is baked."
        assert await refused(await library.installation.get(f"{spelling}/1", headers=library.headers)) == (
            404, "Chunk not found.",
        )  # fmt: skip
    assert await library.delete(f"{path}/1") == 404
    assert (await library.read(f"/v1/chunks/{document}?limit=1&offset=1"))["data"][0]["id"] == 2


async def test_chunks_that_are_added_at_once_have_ids_of_their_own(library: Library) -> None:
    response = await library.upload(await library.collection(), None, title="notes")
    path = f"{DOCUMENTS}/{(await response.json())['id']}/chunks"
    body = {"chunks": [{"content": f"chunk {number}"} for number in range(10)]}

    added = await asyncio.gather(*(post(library, path, body) for _ in range(4)))

    ids = [one for response in added for one in (await response.json())["ids"]]
    assert sorted(ids) == list(range(40))
    pages = [await library.read(f"{path}?limit=15&offset={offset}") for offset in (0, 15, 30)]
    assert [chunk["id"] for page in pages for chunk in page["data"]] == list(range(40))


async def post(library: Library, path: str, body: Any) -> Any:
    return await library.installation.post(path, body, headers=library.headers)


async def test_chunks_are_added_all_or_none(library: Library, provider: ScriptedProvider) -> None:
    collection = await library.collection()
    document = await library.document(collection, "Hello")
    await use_provider(library, provider)
    provider.script = [embeds()]
    provider.default = fails(400)

    response = await post(library, f"{DOCUMENTS}/{document}/chunks", {"chunks": [{"content": "b"}] * 40})

    assert response.status in (400, 403)
    assert len(await library.installation.rows(ChunkRow)) == 1
    assert len(await library.installation.rows(DocumentRow)) == 1


async def test_what_a_form_may_not_say(library: Library) -> None:
    collection = await library.collection()
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"data": None}, 422, "name is required when file is not provided"),
        ({"metadata": "x"}, 422, "metadata must be a JSON object"),
        ({"metadata": "[]"}, 422, "metadata must be a JSON object"),
        ({"metadata": "{}"}, 422, "Expected 1 to 10 entries"),
        ({"metadata": json.dumps(dict.fromkeys("abcdefghijk", 1))}, 422, "Expected 1 to 10 entries"),
        ({"metadata": '{"a": null}'}, 422, "Expected a text, a number or a boolean"),
        ({"metadata": '{"a": [1]}'}, 422, "Expected a text, a number or a boolean"),
        ({"metadata": '{"a": 99999999999999999}'}, 422, "Expected a number between"),
        ({"metadata": '{"a": 1e999}'}, 422, ""),
        ({"metadata": json.dumps({"a": "x" * 256})}, 422, "Expected 1 to 255 characters"),
        ({"metadata": '{" ": 1}'}, 422, "Expected 1 to 255 characters"),
        ({"metadata": "[" * 100_000}, 422, "metadata must be a JSON object"),
        ({"chunk_size": 10, "chunk_overlap": 10}, 422, "`chunk_overlap` must be less than `chunk_size`"),
        ({"chunk_size": -1}, 422, ""),
        ({"separators": ["("], "is_separator_regex": "true"}, 422, "Expected a regular expression"),
        ({"preset_separators": "Python"}, 422, ""),
        ({"collection_id": None}, 422, "Object missing required field `collection_id`"),
        ({"collection_id": 999_999}, 404, "Collection not found."),
        ({"collection_id": 0}, 422, ""),
        ({"title": "  "}, 422, "Expected 1 to 255 characters"),
        ({"data": b""}, 422, "No chunks were extracted from the document."),
        ({"data": b" \n "}, 422, "No chunks were extracted from the document."),
        ({"chunk_min_size": 100}, 422, "No chunks were extracted from the document."),
    ]
    for fields, status, message in cases:
        members = {"data": b"Hello", "collection_id": collection} | fields
        response = await library.upload(members.pop("collection_id"), members.pop("data"), **members)
        answer = await response.json()
        assert (response.status, answer["error"]["message"][: len(message)]) == (status, message), fields
    assert await library.installation.rows(DocumentRow) == []


async def test_another_users_things_are_not_found(library: Library) -> None:
    mine = await library.collection()
    document = await library.document(mine, TEXT)
    stranger = await new_library(library.installation, "stranger@example.com")

    for path in (f"/v1/collections/{mine}", f"{DOCUMENTS}/{document}", f"{DOCUMENTS}/{document}/chunks"):
        assert (await stranger.installation.get(path, headers=stranger.headers)).status == 404
    for path in (f"/v1/collections/{mine}", f"{DOCUMENTS}/{document}", f"{DOCUMENTS}/{document}/chunks/0"):
        assert await stranger.delete(path) == 404
    assert (await stranger.upload(mine, "x")).status == 404
    assert await stranger.found("trains") == []
    assert await refused(await stranger.search("trains", collection_ids=[mine])) == (
        404, f"Collection {mine} not found.",
    )  # fmt: skip
    assert await stranger.found("trains", document_ids=[document]) == []


async def test_without_an_embedding_model_the_feature_is_off(both: Installation) -> None:
    library = await new_library(both)
    collection = await library.collection()

    upload = await library.upload(collection, "Hello")
    semantic = await library.search("Hello")
    lexical = await library.search("Hello", method="lexical")

    off = (403, "Feature not enabled, please contact an administrator.")
    assert (await refused(upload), await refused(semantic), lexical.status) == (off, off, 200)


async def test_an_ingestion_may_be_waited_for_later(library: Library) -> None:
    collection = await library.collection()

    accepted = await library.upload(collection, TEXT, headers={"Prefer": "respond-async"})
    job = await accepted.json()
    result = await library.read(f"/v1/jobs/{job['id']}/result?wait=10")

    assert (accepted.status, job["kind"]) == (202, "ingestion")
    assert await library.found("bread", method="lexical") == [(result["id"], 0)]
