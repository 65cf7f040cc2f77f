"""Inflection's older routes: a chat with few members, an inference, and its stream."""

import json
from typing import Any

from aiohttp import web

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.conftest import make_settings
from tests.events import read_events
from tests.inflection import hold_against
from tests.installation import Installation, open_installation
from tests.people import read
from tests.providers import ScriptedProvider, chunk, cuts_in_the_middle, fails, says, streams, usage
from tests.servers import RedisServer

LEGACY_CHAT = "/external/api/inference/openai/v1/chat/completions"
LEGACY, STREAM = "/external/api/inference", "/external/api/inference/streaming"
USER = [{"role": "user", "content": "Hi"}]
CONTEXT = [{"type": "Instruction", "text": "You answer."}, {"type": "Human", "text": "Is it sunny in Lyon?"}]
TOOL = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}


async def test_the_older_chat_uses_few_members_and_answers_with_few(
    both: Installation, provider: ScriptedProvider
) -> None:
    await both.add_model("public", provider.url)
    body = {
        "model": "public", "messages": USER, "temperature": 0.5, "max_tokens": 5, "tools": [TOOL],
        "tool_choice": "none", "n": 2, "user": "u", "functions": [], "seed": None,
    }  # fmt: skip

    response = await both.post(LEGACY_CHAT, body)
    answer = await response.json()
    chunks = [
        json.loads(e.data) for e in (await read_events(await both.post(LEGACY_CHAT, body | {"stream": True})))[:-1]
    ]

    hold_against("ChatCompletionResponse", answer)
    assert response.headers["x-sluice-dropped-params"] == "functions, n, tool_choice, user"
    assert provider.requests[0] == {
        "model": "upstream-model", "messages": USER, "temperature": 0.5, "max_tokens": 5, "tools": [TOOL],
    }  # fmt: skip
    for one in (answer, *chunks):
        assert not {"time_info", "service_tier", "search_results"} & one.keys()
        assert all(not {"logprobs", "stop_reason"} & choice.keys() for choice in one["choices"])
    assert json.loads((await both.rows(JobRow))[0].request or b"") == body
    odd = await both.post(LEGACY_CHAT, body | {"a\r\nb: é": 1})
    assert odd.headers["x-sluice-dropped-params"].startswith("a%0D%0Ab%3A%20%C3%A9, functions")
    bad = await both.post(LEGACY_CHAT, body | {"n": 0})
    assert bad.status == 422  # what is dropped is checked all the same


async def test_an_inference_is_a_job_whose_result_is_the_reply(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("Pi-3.1", provider.url, prices=(1, 1))
    provider.default = says("It is sunny in Lyon.", reported=usage(30, 6))
    body = {
        "config": "Pi-3.1", "context": CONTEXT, "temperature": 0.7, "max_tokens": 150, "web_search": False,
        "metadata": {"user_city": "Lyon"},
    }  # fmt: skip
    hold_against("ExternalChatBody", body)

    response = await both.post(f"{LEGACY}?origin_endpoint=app", body)
    reply = await response.json()

    hold_against("ExternalChatResponse", reply)
    assert set(reply) == {"created", "text", "tool_calls", "reasoning_content"}
    assert (reply["text"], reply["tool_calls"]) == ("It is sunny in Lyon.", None)
    assert "x-sluice-web-search" not in response.headers
    assert [message["content"] for message in provider.requests[0]["messages"]] == [
        "User: city=Lyon", "You answer.", "Is it sunny in Lyon?",
    ]  # fmt: skip
    job = await both.job(response.headers["x-job-id"])
    assert (job["kind"], job["endpoint"], job["metadata"]) == ("inference", LEGACY, {"origin_endpoint": "app"})
    assert job["usage"]["total_tokens"] == 36
    assert await read(both, job["urls"]["result"]) == reply
    assert json.loads((await both.rows(JobRow))[0].request or b"") == body
    assert (await both.rows(ChargeRow))[0].amount_micros == 36
    logged = await (await both.post("/v1/requests", {"period": 15, "endpoint": LEGACY})).json()
    assert json.loads(logged["requests"][0]["response_body"]) == reply


async def test_a_streamed_inference_has_gapless_events_and_no_end_mark(both: Installation) -> None:
    body = {"config": "simulator", "context": CONTEXT, "web_search": False}
    whole = await (await both.post(LEGACY, body)).json()

    response = await both.post(STREAM, body)
    text = await response.text()

    lines = text.split("\n\n")[:-1]
    assert all(line.startswith("data: ") for line in lines)  # no ids, no [DONE]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["idx"] for event in events] == list(range(len(events)))
    assert all(set(event) == {"created", "idx", "text", "tool_calls"} for event in events)
    assert "".join(event["text"] for event in events) == whole["text"]
    job = await both.job(response.headers["x-job-id"])
    assert (await read(both, job["urls"]["result"]))["text"] == whole["text"]
    frames = await read(both, job["urls"]["events"], headers={"Accept": "application/json"})
    assert [frame["data"] for frame in frames["data"] if frame["event"] is None] == events


async def test_streamed_calls_of_tools_are_one_event(both: Installation, provider: ScriptedProvider) -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "get", "arguments": ""}}
    provider.default = streams(
        chunk({"role": "assistant", "reasoning_content": "Hm."}),
        chunk({"content": "Let me see."}),
        chunk({"tool_calls": [first]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk({}, "tool_calls"),
    )
    await both.add_model("public", provider.url)

    response = await both.post(STREAM, {"config": "public", "context": CONTEXT, "tools": [TOOL]})
    events = [json.loads(event.data) for event in await read_events(response)]

    call = {"id": "c1", "type": "function", "function": {"name": "get", "arguments": '{"a":1}'}}
    hold_against("ToolCall", call)
    assert [(event["text"], event["tool_calls"]) for event in events] == [
        ("", None),
        ("Let me see.", None),
        ("", [call]),
    ]
    assert events[0]["reasoning_content"] == "Hm."
    result = await read(both, f"/v1/jobs/{response.headers['x-job-id']}/result")
    hold_against("ExternalChatResponse", result)
    assert (result["tool_calls"], result["reasoning_content"]) == ([call], "Hm.")


async def test_a_broken_stream_ends_with_an_event_of_the_same_form(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url)
    provider.default = streams(chunk({"content": "one"}), chunk({"content": " two"}), cut=True)
    body = {"config": "public", "context": CONTEXT}

    events = [json.loads(event.data) for event in await read_events(await sluice.post(STREAM, body))]
    provider.default = fails(400, "No.")
    refused = await sluice.post(STREAM, body)

    last = events[-1]
    assert (last["idx"], last["text"], last["tool_calls"]) == (len(events) - 1, "", None)
    assert (last["error"]["code"], last["detail"]) == ("interrupted", last["error"]["message"])
    assert (refused.status, (await refused.json())["detail"]) == (400, "No.")
    provider.default = cuts_in_the_middle()
    assert (await sluice.post(LEGACY, body, headers={"Prefer": "wait=1"})).status in (503, 504)


async def test_inferences_are_jobs_like_others(both: Installation) -> None:
    body = {"config": "simulator", "context": CONTEXT}

    later = await both.post(LEGACY, body, headers={"Prefer": "respond-async"})
    made = await both.post("/v1/jobs", {"endpoint": LEGACY, "body": body})
    first = await both.post(LEGACY, body, headers={"Idempotency-Key": "k"})
    again = await both.post(LEGACY, body, headers={"Idempotency-Key": "k"})

    assert (later.status, made.status) == (202, 202)
    for response in (later, made):
        job = await response.json()
        hold_against("ExternalChatResponse", await read(both, f"/v1/jobs/{job['id']}/result?wait=10"))
    assert await first.json() == await again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    streamed = {"headers": {"Idempotency-Key": "s"}}
    assert (
        await (await both.post(STREAM, body, **streamed)).text()
        == await (await both.post(STREAM, body, **streamed)).text()
    )


async def test_the_web_is_searched_where_there_is_a_source(
    tmp_path: Any, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    asked: list[dict[str, str]] = []

    async def search(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        results = [{"title": "Weather", "url": "https://example.com/", "content": "Sunny.", "score": 1.0}]
        return web.json_response({"query": "q", "results": results if len(asked) == 1 else []})

    provider.routes["/search"] = search
    async with open_installation(make_settings(tmp_path, redis_server, searxng_url=provider.url)) as sluice:
        await sluice.add_model("public", provider.url)
        body = {"config": "public", "context": CONTEXT}
        first = await sluice.post(LEGACY, body)
        second = await sluice.post(LEGACY, body | {"web_search": True}, headers={"Prefer": "handling=strict"})
        third = await sluice.post(LEGACY, body | {"web_search": False})
        provider.routes["/search"] = lambda _request: _answers(web.Response(status=500))
        fourth = await sluice.post(LEGACY, body)
        refused = await sluice.post(LEGACY, body | {"web_search": True}, headers={"Prefer": "handling=strict"})
        again = await sluice.post("/v1/jobs", {"endpoint": LEGACY, "body": body})
        result = await read(sluice, f"/v1/jobs/{(await again.json())['id']}/result?wait=10")
        configs = await read(sluice, "/v1/discovery/configs")

    assert [one.headers.get("x-sluice-web-search") for one in (first, second, third, fourth)] == [
        "used", "used", None, "unavailable",
    ]  # fmt: skip
    assert asked == [{"q": "Is it sunny in Lyon?", "format": "json"}] * 2
    sent = [[message["role"] for message in one["messages"]] for one in provider.requests]
    assert sent == [["system", "system", "user"], *[["system", "user"]] * 4]
    found = provider.requests[0]["messages"][1]["content"]
    assert found == "Retrieved information:\n[1] Weather\nhttps://example.com/\nSunny."
    assert (refused.status, (await refused.json())["error"]["code"]) == (503, "web_search_failed")
    assert (again.headers["x-sluice-web-search"], result["text"]) == ("unavailable", "Hello!")
    assert all(config["default_parameters"]["webSearch"]["value"] is True for config in configs)


async def _answers(response: web.Response) -> web.StreamResponse:
    return response


async def test_without_a_source_a_search_is_ignored_unless_it_must_be(sluice: Installation) -> None:
    body = {"config": "simulator", "context": CONTEXT}
    strict = {"Prefer": "handling=strict"}

    ignored = [await sluice.post(LEGACY, body), await sluice.post(LEGACY, body | {"web_search": True})]
    optional = await sluice.post(LEGACY, body, headers=strict)
    refused = await sluice.post(LEGACY, body | {"web_search": True}, headers=strict)

    assert [(one.status, one.headers["x-sluice-web-search"]) for one in (*ignored, optional)] == [
        (200, "unavailable")
    ] * 3
    error = (await refused.json())["error"]
    assert (refused.status, error["code"], error["param"]) == (400, "web_search_unavailable", "web_search")


async def test_a_provider_of_one_system_message_gets_one(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url, type="mistral")
    context = [*CONTEXT, {"type": "Retrieval", "text": "Sunny."}, {"type": "Human", "text": "Sure?"}]

    response = await sluice.post(LEGACY, {"config": "public", "context": context, "web_search": False})

    assert response.status == 200
    roles = [message["role"] for message in provider.requests[0]["messages"]]
    assert roles == ["system", "user", "user"]
    assert provider.requests[0]["messages"][0]["content"].endswith("\n\nRetrieved information:\nSunny.")
