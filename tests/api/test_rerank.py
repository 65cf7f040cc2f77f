"""POST /v1/rerank, through HTTP, queue, worker, provider and back."""

import json
from typing import Any

import pytest
from aiohttp import web

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.providers import Behaviour, ScriptedProvider, ranks, sends

MODEL: dict[str, Any] = {"router_type": "text-classification", "model_name": "upstream-model"}
VLLM: dict[str, Any] = {**MODEL, "type": "vllm"}
DOCUMENTS = ["Bread is baked.", "The train to Lyon leaves at nine.", "Lyon is a city."]


async def rerank(sluice: Installation, headers: dict[str, str] | None = None, **members: Any) -> Any:
    body = {"model": "public", "query": "train to Lyon", "documents": DOCUMENTS} | members
    return await sluice.post("/v1/rerank", body, headers=headers or {})


def ranking(answer: Any) -> list[int]:
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    return [result["index"] for result in answer["results"]]


async def test_documents_are_sorted_by_relevance(both: Installation) -> None:
    await both.add_model("public", **MODEL, prices=(1, 1))

    response = await rerank(both)

    answer = await response.json()
    assert response.status == 200
    assert (answer["object"], answer["model"], answer["id"]) == ("list", "public", response.headers["x-job-id"])
    assert ranking(answer) == [1, 2, 0]
    record, charge = (await both.rows(UsageRecordRow))[0], (await both.rows(ChargeRow))[0]
    assert record.endpoint == "/v1/rerank"
    assert record.prompt_tokens == charge.amount_micros == answer["usage"]["total_tokens"] > 10


async def test_only_the_best_are_returned_if_that_is_asked(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = ranks(0.2, 0.9, 0.5)
    await sluice.add_model("public", provider.url, **VLLM)

    answer = await (await rerank(sluice, top_n=2)).json()
    all_of_them = await (await rerank(sluice, top_n=50)).json()

    assert answer["results"] == [{"relevance_score": 0.9, "index": 1}, {"relevance_score": 0.5, "index": 2}]
    assert ranking(all_of_them) == [1, 2, 0]


async def test_equal_scores_keep_the_order_of_the_documents(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = ranks(0.5, 0.9, 0.5)
    await sluice.add_model("public", provider.url, **VLLM)

    assert ranking(await (await rerank(sluice)).json()) == [1, 0, 2]


@pytest.mark.parametrize(("kind", "path"), [("vllm", "/v2/rerank"), ("albert", "/v1/rerank")])
async def test_texts_are_trimmed_and_other_members_passed_on(
    sluice: Installation, provider: ScriptedProvider, kind: str, path: str
) -> None:
    provider.default = ranks(0.5, 0.9)
    await sluice.add_model("public", provider.url, **MODEL, type=kind)

    await rerank(sluice, query=" q ", documents=["\ta", "b\n"], top_n=1, priority=3)

    sent = {"model": "upstream-model", "query": "q", "documents": ["a", "b"], "top_n": 1, "priority": 3}
    assert (provider.paths, provider.requests) == ([path], [sent])


async def test_tokens_are_those_of_the_provider_or_of_query_and_documents(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.script = [ranks(0.5, 0.9, reported={"total_tokens": 31})]
    provider.default = ranks(0.5, 0.9)
    await sluice.add_model("public", provider.url, **VLLM)

    reported = await (await rerank(sluice, query="one two", documents=["three", "four five"])).json()
    counted = await (await rerank(sluice, query="one two", documents=["three", "four five"])).json()

    assert (reported["usage"]["prompt_tokens"], counted["usage"]["prompt_tokens"]) == (31, 5)
    assert [record.is_estimated for record in await sluice.rows(UsageRecordRow)] == [False, True]


def tei_scores(most: int) -> Behaviour:
    """Score as text-embeddings-inference does, best first: a text is as relevant as its number says."""

    async def behave(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(body["texts"]) > most:
            message = f"batch size {len(body['texts'])} > maximum allowed batch size {most}"
            return web.json_response({"error": message, "error_type": "Validation"}, status=422)
        scores = [{"index": i, "score": int(text) / 1000} for i, text in enumerate(body["texts"])]
        return web.json_response(sorted(scores, key=lambda one: -float(one["score"])))

    return behave


async def test_tei_is_asked_in_its_own_words_and_for_as_many_as_it_takes(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = tei_scores(20)
    await sluice.add_model("public", provider.url, **MODEL, type="tei")
    numbers = [str(number * 37 % 100) for number in range(100)]

    answer = await (await rerank(sluice, query="q", documents=numbers, top_n=3)).json()

    assert [numbers[result["index"]] for result in answer["results"]] == ["99", "98", "97"]
    assert set(provider.paths) == {"/rerank"}
    sizes = [len(request["texts"]) for request in provider.requests]
    assert (sizes[:2], sorted(sizes[2:])) == ([32, 16], [4, 16, 16, 16, 16, 16])
    assert answer["usage"]["requests"] == 7
    assert provider.requests[sizes.index(4)] == {
        "query": "q", "texts": numbers[-4:], "raw_scores": False, "return_text": False, "truncate": False,
        "truncation_direction": "right",
    }  # fmt: skip


BAD: list[tuple[dict[str, Any], list[str | int]]] = [
    ({"query": " "}, ["body", "query"]),
    ({"query": None}, ["body", "query"]),
    ({"model": " "}, ["body", "model"]),
    ({"documents": []}, ["body", "documents"]),
    ({"documents": "text"}, ["body", "documents"]),
    ({"documents": ["a", ""]}, ["body", "documents", 1]),
    ({"documents": ["a", "\n\t"]}, ["body", "documents", 1]),
    ({"documents": ["a", 1]}, ["body", "documents", 1]),
    ({"top_n": 0}, ["body", "top_n"]),
]


@pytest.mark.parametrize(("members", "place"), BAD)
async def test_what_cannot_be_ranked_is_422_with_its_place_and_makes_no_job(
    sluice: Installation, members: dict[str, Any], place: list[str | int]
) -> None:
    await sluice.add_model("public", **MODEL)

    response = await rerank(sluice, **members)

    assert response.status == 422
    assert (await response.json())["detail"][0]["loc"] == place
    assert await sluice.rows(JobRow) == []


async def test_a_model_of_another_type_is_refused(sluice: Installation) -> None:
    response = await rerank(sluice, model="simulator")

    assert (response.status, (await response.json())["detail"]) == (422, "Wrong model type.")
    assert await sluice.rows(JobRow) == []


async def test_an_accepted_job_has_the_ranking_as_its_result(both: Installation) -> None:
    await both.add_model("public", **MODEL)

    accepted = await rerank(both, headers={"Prefer": "respond-async"})

    job = await accepted.json()
    done = await (await both.get(f"/v1/jobs/{job['id']}?wait=15")).json()
    result = await (await both.get(f"/v1/jobs/{job['id']}/result")).json()
    assert (accepted.status, job["kind"], done["status"], done["aliases"]) == (202, "rerank", "completed", [])
    assert (result["id"], ranking(result)) == (job["id"], [1, 2, 0])


MALFORMED: list[Any] = [
    {},
    {"results": []},
    {"results": [{"index": 3, "relevance_score": 1}]},
    {"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]},
    {"results": [{"index": 0, "relevance_score": None}]},
    [],
]


@pytest.mark.parametrize("document", MALFORMED)
async def test_a_malformed_answer_is_a_failure_of_the_provider(
    sluice: Installation, provider: ScriptedProvider, document: Any
) -> None:
    provider.script = [sends(json.dumps(document).encode())]
    provider.default = ranks(1, 2, 3)
    await sluice.add_model("public", provider.url, **VLLM)

    response = await rerank(sluice)

    assert response.status == 200
    assert len(provider.requests) == 2


async def test_the_simulator_obeys_its_script(sluice: Installation) -> None:
    await sluice.add_model("public", **MODEL)

    failed = await rerank(sluice, simulator={"fail": "400"})
    uncounted = await rerank(sluice, simulator={"usage": False, "fail": "cut", "fail_attempts": 1})

    assert (failed.status, uncounted.status) == (400, 200)
    assert (await sluice.rows(UsageRecordRow))[-1].is_estimated


async def test_tokens_of_reranking_are_no_chat_of_the_month(both: Installation) -> None:
    await both.add_model("public", **MODEL)
    chat = (await (await both.chat()).json())["usage"]["total_tokens"]
    ranked = (await (await rerank(both)).json())["usage"]["total_tokens"]

    month = (await (await both.get("/v1/usage")).json())["current_month"]

    assert (month["chat"], month["requests"]) == (chat, 2)
    assert ranked > 0
    by_model = {one["model"]: one["input_tokens"] + one["output_tokens"] for one in month["by_model"]}
    assert by_model == {"public": ranked, "simulator": chat}
