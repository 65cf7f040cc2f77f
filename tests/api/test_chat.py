"""POST /v1/chat/completions, through HTTP, queue, worker, provider and back."""

import json

import pytest

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.events import read_events
from tests.installation import Installation
from tests.providers import ScriptedProvider, chunk, says, sends, streams, usage


async def test_returns_the_whole_answer(both: Installation) -> None:
    response = await both.chat(simulator={"text": "Hello there"})

    answer = await response.json()
    assert response.status == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "simulator"
    assert answer["choices"][0]["message"]["content"] == "Hello there"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["id"].startswith("chatcmpl-")
    assert response.headers["x-job-id"] == "job_" + answer["id"].removeprefix("chatcmpl-")
    assert response.headers["x-request-id"].startswith("req_")


async def test_streams_chunks_then_usage_then_done(both: Installation) -> None:
    response = await both.chat(stream=True, simulator={"text": "one two three"})

    events = await read_events(response)
    chunks = [json.loads(event.data) for event in events[:-1]]
    assert response.headers["Content-Type"] == "text/event-stream"
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1]) == "one two three"
    assert {c["id"] for c in chunks} == {"chatcmpl-" + response.headers["x-job-id"].removeprefix("job_")}
    assert [c["usage"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert events[-1].data == "[DONE]"


async def test_the_provider_gets_the_body_as_received_with_its_own_model_name(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url, model_name="private-name", key="sk-upstream")
    body = '{"model":"public","messages":[{"role":"user","content":"Hi","odd":1.50}],"top_k":7,"new":{"a":[1,null]}}'

    response = await sluice.client.post("/v1/chat/completions", data=body, headers=sluice.headers)

    assert response.status == 200
    assert provider.bodies[0].decode() == body.replace('"public"', '"private-name"')
    assert provider.headers[0]["Authorization"] == "Bearer sk-upstream"


async def test_a_stream_asks_the_provider_for_its_usage(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)

    await sluice.chat(model="public", stream=True, stream_options={"other": 1})

    assert provider.requests[0]["stream_options"] == {"other": 1, "include_usage": True}
    assert provider.requests[0]["stream"] is True


async def test_members_a_provider_adds_reach_the_caller(sluice: Installation, provider: ScriptedProvider) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    provider.default = says("Hi", reported=usage(9, 3, **details), prompt_logprobs=[1], system_fingerprint="fp_1")
    await sluice.add_model("public", provider.url)

    answer = await (await sluice.chat(model="public")).json()

    assert answer["prompt_logprobs"] == [1]
    assert answer["system_fingerprint"] == "fp_1"
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    record = (await sluice.rows(UsageRecordRow))[0]
    assert (record.cached_tokens, record.reasoning_tokens, record.is_estimated) == (4, 2, False)


async def test_an_alias_is_answered_under_its_own_name(sluice: Installation) -> None:
    router = await (
        await sluice.post("/v1/admin/routers", {"name": "long", "type": "text-generation", "aliases": ["short"]})
    ).json()
    await sluice.add_provider(router["id"])

    response = await sluice.chat(model="short", stream=True)

    chunks = [json.loads(event.data) for event in (await read_events(response))[:-1]]
    assert {c["model"] for c in chunks} == {"short"}


async def test_tokens_are_counted_if_the_provider_reports_none(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = says("one two three", reported={})
    await sluice.add_model("public", provider.url, prices=(1, 10))

    for is_stream in (False, True):
        response = await sluice.chat("hello world <|endoftext|>", model="public", stream=is_stream)
        await response.read()

    records = await sluice.rows(UsageRecordRow)
    assert [record.is_estimated for record in records] == [True, True]
    assert [record.completion_tokens for record in records] == [3, 3]
    assert all(record.prompt_tokens >= 4 for record in records)
    assert all(charge.amount_micros > 0 for charge in await sluice.rows(ChargeRow))


async def test_three_choices_and_tool_calls_are_counted(sluice: Installation, provider: ScriptedProvider) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Lyon"}'}}
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "two words"}, "finish_reason": "stop"},
        {"index": 2, "message": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": "tool"},
    ]
    provider.default = sends(json.dumps({"choices": choices}).encode())
    await sluice.add_model("public", provider.url)

    answer = await (await sluice.chat(model="public", n=3)).json()

    assert answer["usage"]["completion_tokens"] >= 3 + 4
    assert answer["choices"][2]["message"]["tool_calls"][0]["function"]["arguments"] == '{"city":"Lyon"}'


async def test_streamed_tool_calls_are_stored_as_one_message(sluice: Installation, provider: ScriptedProvider) -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "get", "arguments": ""}}
    provider.default = streams(
        chunk({"role": "assistant", "tool_calls": [first]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk({}, "tool_calls"),
    )
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public", stream=True)
    await response.read()

    stored = await (await sluice.get(f"/v1/jobs/{response.headers['x-job-id']}/result")).json()
    message = stored["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "get", "arguments": '{"a":1}'}
    assert stored["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_completion_that_is_read_again_has_every_member(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url)
    provider.script = [says("Hi"), says("Hi", service_tier="flex")]
    ids = [(await (await sluice.chat(model="public")).json())["id"] for _ in range(2)]

    listed = (await (await sluice.get("/v1/chat/completions")).json())["data"]
    read = [await (await sluice.get(f"/v1/chat/completions/{one}")).json() for one in ids]

    assert listed == read
    assert [one["service_tier"] for one in read] == ["default", "flex"]
    unused = {"refusal": None, "tool_calls": None, "function_call": None}
    assert [one["choices"][0]["message"] for one in read] == [{"role": "assistant", "content": "Hi"} | unused] * 2


@pytest.mark.parametrize(("tier", "fingerprint"), [(None, None), ("flex", "fp_1")])
async def test_every_chunk_has_a_tier_and_a_fingerprint(
    sluice: Installation, provider: ScriptedProvider, tier: str | None, fingerprint: str | None
) -> None:
    told = {"service_tier": tier, "system_fingerprint": fingerprint} if tier else {}
    provider.default = streams(chunk({"content": "Hi"}) | told, chunk({}, "stop") | told)
    await sluice.add_model("public", provider.url)

    events = await read_events(await sluice.chat(model="public", stream=True))

    chunks = [json.loads(event.data) for event in events[:-1]]
    assert len(chunks) == 3
    assert {(one["service_tier"], one["system_fingerprint"]) for one in chunks} == {(tier, fingerprint)}


async def test_content_that_looks_like_framing_is_content(sluice: Installation) -> None:
    text = "data: [DONE] data: {} \u2028 event: x"

    response = await sluice.chat(stream=True, simulator={"text": text})

    chunks = [json.loads(event.data) for event in (await read_events(response))[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == text


async def test_any_legal_framing_of_the_provider_is_understood(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    body = (
        b": hello\r\n\r\nevent: message\r\ndata:"
        + json.dumps(chunk({"role": "assistant", "content": "gr\u00fc\u00df"}), ensure_ascii=False).encode()
        + b"\r\n\r\ndata: "
        + json.dumps(chunk({}, "stop")).encode()
        + b"\n\n:bye\n\ndata: "
        + json.dumps(chunk({}, choices=[], usage=usage())).encode()
    )
    provider.default = sends(body, "text/event-stream")
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public", stream=True)

    events = await read_events(response)
    assert json.loads(events[0].data)["choices"][0]["delta"]["content"] == "gr\u00fc\u00df"
    assert json.loads(events[-2].data)["usage"]["prompt_tokens"] == 9
    assert events[-1].data == "[DONE]"


async def test_a_large_prompt_is_read_from_its_row(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url)
    text = "word " * 100_000

    response = await both.chat(text, model="public")

    assert response.status == 200
    assert provider.requests[0]["messages"][0]["content"] == text
    assert len((await both.rows(JobRow))[0].request) > 500_000


async def test_a_silent_stream_is_kept_alive(settings_with_short_silence: Installation) -> None:
    response = await settings_with_short_silence.chat(stream=True, simulator={"text": "late", "delay_ms": 700})

    body = await response.text()
    assert body.startswith(": keep-alive\n\n")
    assert body.endswith("data: [DONE]\n\n")
