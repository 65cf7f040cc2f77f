"""Every adapter, operation by operation, against what servers do right and wrong."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from shared.request_logs.tables import RequestLogRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.adapters.servers import CHATS, COMPLETIONS, ERRORS, KEY, PROMPT_TOKENS, SERVERS, Server
from tests.events import read_events
from tests.installation import Installation
from tests.providers import (
    Behaviour,
    ScriptedProvider,
    chunk,
    cuts_at_once,
    cuts_in_the_middle,
    fails,
    hangs,
    sends,
    usage,
)
from worker.providers import openai_compatible, sse

each_server = pytest.mark.parametrize("server", SERVERS, ids=str)
each_of_json = pytest.mark.parametrize("server", [one for one in SERVERS if one.operation != "speech"], ids=str)
FREE_OF_OUTPUT = ("embedding", "rerank")


async def charges_of(sluice: Installation) -> list[int]:
    return [charge.amount_micros for charge in await sluice.rows(ChargeRow)]


async def usage_of(sluice: Installation, response: Any) -> Any:
    """Return the usage of the job behind an answer."""
    return (await sluice.job(response.headers["x-job-id"]))["usage"]


def as_told(answer: Any, used: Any) -> Any:
    """Return the usage of a job in the words of its route."""
    if answer.get("object") != "response":
        return used
    details = {
        "input_tokens": used["prompt_tokens"], "output_tokens": used["completion_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    return details | {name: used[name] for name in ("total_tokens", "cost", "carbon", "impacts", "requests")}


async def reasons_of(sluice: Installation) -> list[str | None]:
    """Return why attempts failed, in their order."""
    rows = await sluice.rows(RequestLogRow)
    return [row.retry_reason for row in sorted(rows, key=lambda row: row.attempt)]


@each_server
async def test_an_answer_is_passed_on_and_charged(
    sluice: Installation, provider: ScriptedProvider, server: Server
) -> None:
    await server.register(sluice, provider)

    response = await server.call(sluice)

    used = await usage_of(sluice, response)
    assert (response.status, used["requests"]) == (200, 1)
    if server.operation != "speech":
        answer = await response.json()
        assert (answer["model"], answer["usage"]) == ("public", as_told(answer, used))
    assert provider.paths == [server.path]
    assert provider.headers[0]["Authorization"] == f"Bearer {KEY}"
    is_form = server.is_form and server.path == server.route
    sent_as = provider.headers[0]["Content-Type"].partition(";")[0]
    assert sent_as == ("multipart/form-data" if is_form else "application/json")
    if server.reports_usage:
        assert provider.requests[0]["model"] == "upstream-model"
        assert used["prompt_tokens"] == PROMPT_TOKENS
    assert await charges_of(sluice) == [used["total_tokens"]]


@each_server
async def test_what_is_not_reported_is_counted(
    sluice: Installation, provider: ScriptedProvider, server: Server
) -> None:
    await server.register(sluice, provider)
    provider.default = server.answers(False)

    response = await server.call(sluice)

    record = (await sluice.rows(UsageRecordRow))[0]
    assert response.status == 200
    assert record.is_estimated
    assert (record.prompt_tokens > 0) == (server.operation != "ocr")
    assert (record.completion_tokens > 0) == (server.operation not in FREE_OF_OUTPUT)


@each_of_json
async def test_a_media_type_may_have_parameters(
    sluice: Installation, provider: ScriptedProvider, server: Server
) -> None:
    await server.register(sluice, provider)
    provider.default = with_media_type(server.answers(True), "Application/JSON; charset=utf-8")

    answer = await (await server.call(sluice)).json()

    assert answer["usage"]["total_tokens"] > 0
    assert [row.is_estimated for row in await sluice.rows(UsageRecordRow)] == [not server.reports_usage]


def with_media_type(behaviour: Behaviour, content_type: str) -> Behaviour:
    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await behaviour(request, body)
        assert isinstance(response, web.Response)
        return web.Response(body=response.body, headers={"Content-Type": content_type})

    return behave


@each_server
@pytest.mark.parametrize("error", ERRORS)
async def test_a_refusal_arrives_readable_and_free(
    sluice: Installation, provider: ScriptedProvider, server: Server, error: bytes
) -> None:
    await server.register(sluice, provider)
    provider.default = sends(error, status=400)

    response = await server.call(sluice)

    answer = await response.json()
    assert response.status == 400
    assert answer["detail"] == answer["error"]["message"]
    assert "too long" in answer["detail"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert len(provider.requests) == 1
    assert await charges_of(sluice) == [0]


async def test_a_refusal_with_nul_can_be_stored(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url)
    error = {"message": "too\x00 long", "code": "a\x00b", "param": "c\x00d"}
    provider.default = sends(json.dumps({"error": error}).encode(), status=400)

    response = await both.chat(model="public")

    told = (await response.json())["error"]
    assert (response.status, told["message"], told["code"], told["param"]) == (400, "too long", "ab", "cd")
    assert len(provider.requests) == 1
    assert [row.error_code for row in await both.rows(RequestLogRow)] == ["ab"]


@each_server
async def test_a_refusal_tells_neither_key_nor_address(
    sluice: Installation, provider: ScriptedProvider, server: Server
) -> None:
    await server.register(sluice, provider)
    provider.default = fails(400, f"Bad request to {provider.url}v1 with {KEY}: no such voice")

    text = await (await server.call(sluice)).text()

    assert "no such voice" in text
    assert KEY not in text
    assert provider.url.rstrip("/") not in text


@each_server
async def test_a_fault_of_the_operator_is_not_shown_as_one_of_the_caller(
    sluice: Installation, provider: ScriptedProvider, server: Server
) -> None:
    await server.register(sluice, provider)
    provider.default = fails(401, f"Incorrect API key {KEY}")

    response = await server.call(sluice)

    assert response.status >= 500
    assert "Incorrect" not in await response.text()
    assert (len(provider.requests), await charges_of(sluice)) == (1, [0])


@each_server
async def test_a_provider_that_is_busy_is_left_in_peace(
    sluice: Installation, provider: ScriptedProvider, server: Server
) -> None:
    await server.register(sluice, provider)
    provider.default = fails(429, **{"Retry-After": "60"})

    response = await server.call(sluice)

    assert (response.status, (await response.json())["error"]["code"]) == (503, "model_busy")
    assert int(response.headers["retry-after"]) >= 1
    assert (len(provider.requests), await charges_of(sluice)) == (1, [0])


PASSING: dict[str, tuple[Behaviour, str]] = {
    "500": (fails(500, "boom"), "http_5xx"),
    "timeout": (hangs(), "timeout"),
    "refused": (cuts_at_once(), "connection"),
    "cut": (cuts_in_the_middle(), "connection"),
    "broken JSON": (sends(b'{"choices": [{'), "malformed"),
    "a page": (sends(b"<html>", "text/html"), "malformed"),
    "nothing": (sends(b""), "malformed"),
    "null": (sends(b"null"), "malformed"),
    "another document": (sends(b'{"status": "ok"}'), "malformed"),
    "not UTF-8": (sends(b'{"choices": "\xff"}'), "malformed"),
}


@each_server
@pytest.mark.parametrize("failure", PASSING)
async def test_a_passing_failure_is_tried_again(
    sluice: Installation, provider: ScriptedProvider, server: Server, failure: str
) -> None:
    behaviour, reason = PASSING[failure]
    await server.register(sluice, provider, timeout=1)
    provider.script = [behaviour]

    response = await server.call(sluice)

    assert response.status == 200
    assert await reasons_of(sluice) == [reason, None]
    assert await charges_of(sluice) == [(await usage_of(sluice, response))["total_tokens"]]


async def test_an_answer_without_end_is_given_up(
    sluice: Installation, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_compatible, "_MAX_BODY_BYTES", 100_000)
    monkeypatch.setattr(sse, "_MAX_EVENT_BYTES", 100_000)
    (server, *_) = CHATS
    await server.register(sluice, provider)

    provider.script = [sends(200_000 * b" ")]
    assert (await server.call(sluice)).status == 200
    for endless in (b"data: " + 200_000 * b"x", 50_000 * b"data: x\n"):
        provider.script = [split(endless, 50_000)]
        text = await (await server.call(sluice, stream=True)).text()
        assert text.endswith("data: [DONE]\n\n")

    assert await reasons_of(sluice) == 3 * ["malformed"] + 3 * [None]


def framed(choices: list[dict[str, Any]]) -> bytes:
    """Return these choices, each as a chunk, and a usage, framed in all the ways that are legal."""
    first, second, last = (json.dumps(chunk({}, choices=[one]), ensure_ascii=False).encode() for one in choices)
    reported = json.dumps(chunk({}, choices=[], usage=usage())).encode()
    head = b": hello\r\n\r\nevent: message\r\ndata:" + first + b"\r\n\r\nid: 7\nretry: 10\ndata: " + second + b"\n\n"
    return head + b":bye\n\ndata: " + last + b"\n\ndata: " + reported  # neither a newline nor [DONE] at the end


@pytest.mark.parametrize("server", [*CHATS, *COMPLETIONS], ids=str)
async def test_any_legal_framing_of_a_stream_is_understood(
    sluice: Installation, provider: ScriptedProvider, server: Server
) -> None:
    texts = ["gr\u00fc\u00df", " data: [DONE]", ""]
    choices = [
        {"index": 0, "text": text, "delta": {"content": text}, "finish_reason": None if text else "stop"}
        for text in texts
    ]
    await server.register(sluice, provider)
    provider.default = split(framed(choices), 7)

    response = await server.call(sluice, stream=True)

    events = await read_events(response)
    chunks = [json.loads(event.data) for event in events[:-1]]
    assert "".join(one["choices"][0]["text"] for one in chunks[:-1]) == "".join(texts)
    assert chunks[-1]["usage"]["prompt_tokens"] == 9
    assert events[-1].data == "[DONE]"
    assert await charges_of(sluice) == [12]


def split(raw: bytes, size: int) -> Behaviour:
    """Stream these bytes in pieces that end anywhere."""

    async def behave(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for start in range(0, len(raw), size):
            await response.write(raw[start : start + size])
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return behave


async def test_an_operation_that_a_provider_does_not_have_is_the_operator_s_to_mend(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url, type="mistral", prices=(1, 1))

    responses = [
        await sluice.post("/v1/completions", {"model": "public", "prompt": "Hello", "stream": is_stream})
        for is_stream in (False, True)
    ]

    assert [response.status >= 500 for response in responses] == [True, True]
    assert (provider.requests, await charges_of(sluice)) == ([], [0, 0])


async def test_a_provider_without_the_operation_is_left_for_one_that_has_it(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    first = await sluice.add_model("public", provider.url, type="mistral")
    await sluice.add_provider(first["router_id"])

    answers = [await sluice.post("/v1/completions", {"model": "public", "prompt": "Hello"}) for _ in range(6)]

    assert [answer.status for answer in answers] == [200] * 6
