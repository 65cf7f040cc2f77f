"""POST /v1/completions, through HTTP, queue, worker, provider and back."""

import json
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.events import read_events
from tests.installation import Installation
from tests.providers import ScriptedProvider, chunk, continues, sends, streams


async def complete(sluice: Installation, prompt: Any, headers: dict[str, str] | None = None, **members: Any) -> Any:
    body = {"model": "simulator", "prompt": prompt} | members
    return await sluice.post("/v1/completions", body, headers=headers or {})


async def test_a_text_is_continued(both: Installation) -> None:
    response = await complete(both, "hello world", simulator={"text": "and so on"})

    answer = await response.json()
    assert response.status == 200
    assert (answer["object"], answer["model"]) == ("text_completion", "simulator")
    assert answer["id"] == "cmpl-" + response.headers["x-job-id"].removeprefix("job_")
    assert answer["choices"] == [{"index": 0, "text": "and so on", "logprobs": None, "finish_reason": "stop"}]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (2, 3)
    assert (await both.job(answer["id"]))["kind"] == "completion"


async def test_each_prompt_has_its_choices(sluice: Installation) -> None:
    answer = await (await complete(sluice, ["a", "b"], n=2, max_tokens=3)).json()

    texts = [choice["text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}
    assert answer["usage"]["completion_tokens"] == 12


async def test_the_provider_gets_the_body_as_received_with_its_own_model_name(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = continues("Hi")
    await sluice.add_model("public", provider.url, model_name="private-name")
    body = '{"model":"public","prompt":[[1,2],[3]],"max_tokens":5,"top_k":7,"user":"somebody"}'

    response = await sluice.client.post("/v1/completions", data=body, headers=sluice.headers)

    assert response.status == 200
    assert provider.paths == ["/v1/completions"]
    assert provider.bodies[0].decode() == body.replace('"public"', '"private-name"')
    assert (await sluice.rows(JobRow))[0].end_user == "somebody"


async def test_a_stream_is_chunks_then_usage_then_done(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = continues("one two three")
    await both.add_model("public", provider.url)

    response = await complete(both, "Hello", model="public", stream=True)

    events = await read_events(response)
    chunks = [json.loads(event.data) for event in events[:-1]]
    result = await (await both.get(f"/v1/jobs/{response.headers['x-job-id']}/result")).json()
    assert provider.requests[0]["stream_options"] == {"include_usage": True}
    assert "".join(c["choices"][0]["text"] for c in chunks[:-1]) == "one two three"
    assert {(c["object"], c["model"], c["id"]) for c in chunks} == {("text_completion", "public", result["id"])}
    assert [c["usage"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 12)
    assert events[-1].data == "[DONE]"
    assert result["choices"] == [{"index": 0, "text": "one two three", "logprobs": None, "finish_reason": "stop"}]
    assert result["usage"] == chunks[-1]["usage"]


async def test_the_simulator_streams_every_choice(sluice: Installation) -> None:
    response = await complete(sluice, ["a", "b"], stream=True, simulator={"text": "x y"})

    chunks = [json.loads(event.data) for event in (await read_events(response))[:-1]]
    pieces = [(c["choices"][0]["index"], c["choices"][0]["text"]) for c in chunks if c["choices"]]
    assert pieces == [(0, "x"), (0, " y"), (0, ""), (1, "x"), (1, " y"), (1, "")]


async def test_a_stream_that_breaks_ends_with_an_error_event(sluice: Installation, provider: ScriptedProvider) -> None:
    first = chunk({}, choices=[{"index": 0, "text": "one", "finish_reason": None}])
    provider.default = streams(first, cut=True)
    await sluice.add_model("public", provider.url, prices=(1, 1))

    response = await complete(sluice, "Hello", model="public", stream=True)

    events = await read_events(response)
    assert json.loads(events[0].data)["choices"][0]["text"] == "one"
    assert json.loads(events[-1].data)["error"]["code"] == "interrupted"
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_tokens_are_counted_if_the_provider_reports_none(
    sluice: Installation, provider: ScriptedProvider, is_stream: bool
) -> None:
    provider.default = continues("one two three", reported={})
    await sluice.add_model("public", provider.url)

    response = await complete(sluice, [1, 2, 3, 4], model="public", stream=is_stream)
    await response.read()

    record = (await sluice.rows(UsageRecordRow))[0]
    assert (record.prompt_tokens, record.completion_tokens, record.is_estimated) == (4, 3, True)


async def test_logprobs_of_a_stream_are_stored_as_one(sluice: Installation, provider: ScriptedProvider) -> None:
    pieces = [
        {"index": 0, "text": text, "finish_reason": None, "logprobs": {"tokens": [text], "token_logprobs": [-1.0]}}
        for text in "ab"
    ]
    last = {"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}
    provider.default = streams(*(chunk({}, choices=[piece]) for piece in (*pieces, last)))
    await sluice.add_model("public", provider.url)

    response = await complete(sluice, "Hello", model="public", stream=True, logprobs=1)
    await response.read()

    result = await (await sluice.get(f"/v1/jobs/{response.headers['x-job-id']}/result")).json()
    assert result["choices"][0]["logprobs"] == {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0]}


BAD: list[tuple[dict[str, Any], list[str | int]]] = [
    ({"prompt": ""}, ["body", "prompt"]),
    ({"prompt": []}, ["body", "prompt"]),
    ({"prompt": ["a", ""]}, ["body", "prompt", 1]),
    ({"prompt": ["a", 1]}, ["body", "prompt"]),
    ({"prompt": [[2**31]]}, ["body", "prompt", 0, 0]),
    ({"prompt": ["a"] * 2049}, ["body", "prompt"]),
    ({"temperature": 2.5}, ["body", "temperature"]),
    ({"n": 3, "best_of": 2}, ["body", "best_of"]),
    ({"max_tokens": -1}, ["body", "max_tokens"]),
]


@pytest.mark.parametrize(("members", "place"), BAD, ids=lambda value: repr(value)[:30])
async def test_what_cannot_be_continued_is_422_with_its_place_and_makes_no_job(
    sluice: Installation, members: dict[str, Any], place: list[str | int]
) -> None:
    response = await sluice.post("/v1/completions", {"model": "simulator", "prompt": "Hello"} | members)

    assert response.status == 422
    assert (await response.json())["detail"][0]["loc"] == place
    assert await sluice.rows(JobRow) == []


async def test_a_model_of_another_type_is_refused(sluice: Installation) -> None:
    await sluice.add_model("public", router_type="text-embeddings-inference")

    response = await complete(sluice, "Hello", model="public")

    assert (response.status, (await response.json())["detail"]) == (422, "Wrong model type.")


async def test_an_accepted_job_is_polled_until_its_result(sluice: Installation) -> None:
    accepted = await complete(sluice, "Hello", headers={"Prefer": "respond-async"}, simulator={"text": "x"})

    job = await accepted.json()
    done = await (await sluice.get(f"/v1/jobs/{job['id']}?wait=15")).json()
    assert (accepted.status, done["status"], done["endpoint"]) == (202, "completed", "/v1/completions")
    assert done["aliases"] == ["cmpl-" + job["id"].removeprefix("job_")]


@pytest.mark.parametrize("body", [b"{}", b'{"choices": [{"text": 1}]}', b'{"choices": null}'])
async def test_a_malformed_answer_is_a_failure_of_the_provider(
    sluice: Installation, provider: ScriptedProvider, body: bytes
) -> None:
    provider.script = [sends(body)]
    provider.default = continues("Hi")
    await sluice.add_model("public", provider.url)

    response = await complete(sluice, "Hello", model="public")

    assert response.status == 200
    assert len(provider.requests) == 2


async def test_the_completions_of_chats_are_not_mixed_with_these(sluice: Installation) -> None:
    made = await (await complete(sluice, "Hello")).json()

    listed = await (await sluice.get("/v1/chat/completions")).json()
    found = await sluice.get("/v1/chat/completions/chatcmpl-" + made["id"].removeprefix("cmpl-"))
    assert (listed["data"], found.status) == ([], 404)
