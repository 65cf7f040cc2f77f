"""Searches through the API: pages of one ranking, methods, filters, accounting; on both databases."""

from typing import Any

import pytest

from shared.usage.tables import UsageRecordRow
from tests.libraries import SEARCH, Library, new_library
from tests.people import ROLES, changed, create, refused
from tests.providers import ScriptedProvider, ranks

WORDS = ("train", "bread", "harbour", "whale", "lamp", "winter")


async def fill(library: Library) -> tuple[int, list[int]]:
    """Make a collection of documents, each with several chunks; returns both."""
    collection = await library.collection()
    documents = []
    for number in range(3):
        text = "\n".join(f"{word} {WORDS[(number + place) % 6]} number{number}" for place, word in enumerate(WORDS))
        documents.append(
            await library.document(
                collection, text, f"{number}.txt", separators=["\n"], chunk_size=30, metadata=f'{{"n": {number}}}'
            )
        )
    return collection, documents


@pytest.mark.parametrize("method", ["semantic", "lexical", "hybrid"])
async def test_pages_are_slices_of_one_ranking(library: Library, method: str) -> None:
    await fill(library)

    everything = await library.found("train whale", method=method, limit=100)
    pages = [await library.found("train whale", method=method, limit=2, offset=offset) for offset in range(0, 20, 2)]

    assert len(everything) > 5
    assert len(set(everything)) == len(everything)
    assert [hit for page in pages for hit in page] == everything


async def test_a_result_says_what_was_found_and_how(library: Library) -> None:
    collection, documents = await fill(library)

    semantic = await (await library.search("bread bread number0", limit=1)).json()
    lexical = await (await library.search("bread number0", method="lexical", limit=1)).json()
    hybrid = await (await library.search("bread number0", method="hybrid", limit=1, rff_k=0)).json()

    [result] = semantic["data"]
    assert semantic["object"] == "list"
    assert (result["method"], 0.5 < result["score"] <= 1) == ("semantic", True)
    assert result["chunk"] == {
        "object": "chunk", "id": 1, "collection_id": collection, "document_id": documents[0],
        "content": "bread bread number0", "metadata": {"n": 0}, "created": result["chunk"]["created"], "page": None,
    }  # fmt: skip
    assert semantic["usage"]["prompt_tokens"] > 0
    assert lexical["data"][0]["score"] > 0
    assert lexical["usage"]["prompt_tokens"] == lexical["usage"]["requests"] == 0
    assert hybrid["data"][0]["method"] == "hybrid"
    assert hybrid["data"][0]["score"] == pytest.approx(2.0)


async def test_the_query_is_embedded_by_a_job_of_its_own(library: Library) -> None:
    await fill(library)

    response = await library.search("train")

    job = await library.read(f"/v1/jobs/{response.headers['x-job-id']}")
    assert (job["kind"], job["endpoint"], job["status"]) == ("embedding", SEARCH, "completed")
    assert job["usage"] == (await response.json())["usage"]
    records = await library.installation.rows(UsageRecordRow)
    assert len(records) == 4


async def test_a_threshold_cuts_and_is_semantic(library: Library) -> None:
    await fill(library)
    every = (await (await library.search("train train", limit=100)).json())["data"]
    middle = every[len(every) // 2]["score"]

    cut = (await (await library.search("train train", limit=100, score_threshold=middle)).json())["data"]

    assert [one["score"] for one in cut] == [one["score"] for one in every if one["score"] >= middle]
    for method in ("lexical", "hybrid"):
        assert await refused(await library.search("x", method=method, score_threshold=0.1)) == (
            400, "Score threshold is only available for semantic search method",
        )  # fmt: skip


async def test_filters_narrow_every_method(library: Library) -> None:
    collection, documents = await fill(library)
    one = {"key": "n", "type": "eq", "value": 1}
    either = {"operator": "or", "filters": [one, {"key": "n", "type": "sw", "value": "2"}]}

    for method in ("semantic", "lexical", "hybrid"):
        alone = await library.found("train", method=method, metadata_filters=one, limit=100)
        both = await library.found("train", method=method, metadata_filters=either, limit=100)
        named = await library.found("train", method=method, document_ids=documents[:1], collections=[collection])
        assert {document for document, _ in alone} == {documents[1]}, method
        assert {document for document, _ in both} == set(documents[1:]), method
        assert {document for document, _ in named} == set(documents[:1]), method


async def test_without_access_to_the_model_words_still_find(library: Library) -> None:
    collection, documents = await fill(library)
    del collection
    role = await create(library.installation, ROLES, name="poor")
    poor = await new_library(library.installation, "poor@example.com", role=role["id"])
    assert await poor.found("train") == []  # nothing is visible, so no model is asked
    own = await poor.collection()
    refusal = await refused(await poor.upload(own, "train"))

    assert refusal == (404, "Model not found.")
    assert await poor.found("train", method="lexical") == []
    assert await refused(await poor.search("train")) == (404, "Model not found.")
    assert {one for one, _ in await library.found("train", method="lexical")} <= set(documents)


async def test_what_a_search_may_not_say(library: Library) -> None:
    bodies: list[tuple[dict[str, Any], int]] = [
        ({}, 422), ({"query": " "}, 422), ({"query": "a\x00"}, 422), ({"query": "a", "prompt": "b"}, 422),
        ({"query": "a", "limit": 0}, 422), ({"query": "a", "limit": 101}, 422), ({"query": "a", "offset": -1}, 422),
        ({"query": "a", "method": "Semantic"}, 422), ({"query": "a", "rff_k": 16_385}, 422),
        ({"query": "a", "score_threshold": 1.5}, 422), ({"query": "a", "collection_ids": [0]}, 422),
        ({"query": "a", "collection_ids": [1] * 101}, 422), ({"query": "a", "collection_ids": [99]}, 404),
        ({"query": "a", "metadata_filters": {"key": "a", "type": "eq"}}, 422),
        ({"query": "a", "metadata_filters": {"key": " ", "type": "eq", "value": 1}}, 422),
        ({"query": "a", "metadata_filters": {"key": "a", "type": "gt", "value": 1}}, 422),
        ({"query": "a", "metadata_filters": {"key": "a", "type": "eq", "value": "x" * 256}}, 422),
        ({"query": "a", "metadata_filters": {"key": "a", "type": "eq", "value": 10**17}}, 422),
        ({"query": "a", "metadata_filters": {"operator": "and", "filters": []}}, 422),
        ({"query": "a", "metadata_filters": {"filters": [{"key": "a", "type": "eq", "value": 1}] * 2}}, 422),
    ]  # fmt: skip
    await library.collection()
    for body, status in bodies:
        response = await library.installation.post(SEARCH, body, headers=library.headers)
        assert response.status == status, body
    answer = await (await library.installation.post(SEARCH, {}, headers=library.headers)).json()
    assert answer["detail"][0]["msg"] == "query or prompt must be provided"


@pytest.mark.parametrize("query", ["'", '"', "* AND (", "🐋", "\u200b", "a" * 10_000, "the of and", "-", "NEAR(a b)"])
async def test_strange_queries_are_answered(library: Library, query: str) -> None:
    await fill(library)

    for method in ("semantic", "lexical", "hybrid"):
        assert (await library.search(query, method=method)).status == 200


async def test_a_collection_may_have_a_model_that_orders_what_is_found(
    library: Library, provider: ScriptedProvider
) -> None:
    collection, _ = await fill(library)
    await library.installation.add_model("judge", provider.url, router_type="text-classification", type="vllm")
    provider.default = ranks(*[number / 100 for number in range(18)], reported={"total_tokens": 50})
    plain = await library.found("train", limit=100)
    path = f"/v1/collections/{collection}"
    await changed(library.installation, path, {"rerank_model": "judge"}, headers=library.headers)

    response = await library.search("train", limit=100)
    pages = [await library.found("train", limit=5, offset=offset) for offset in range(0, 20, 5)]

    answer = await response.json()
    assert [(one["chunk"]["document_id"], one["chunk"]["id"]) for one in answer["data"]] == plain[::-1]
    assert answer["data"][0]["score"] == 0.17
    assert answer["usage"]["requests"] == 2
    assert [hit for page in pages for hit in page] == plain[::-1]
    wrong = await library.installation.patch(path, {"rerank_model": "simulator"}, headers=library.headers)
    assert await refused(wrong) == (422, "Wrong model type.")
    await changed(library.installation, path, {"rerank_model": ""}, headers=library.headers)
    assert await library.found("train", limit=100) == plain
