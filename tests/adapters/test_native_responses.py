"""Providers with a responses route of their own: what they get, and their events with our ids and numbers."""

import json
from typing import Any

import pytest

from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.api.test_response_streams import checked, kinds, log_of
from tests.events import read_events
from tests.installation import Installation
from tests.providers import ScriptedProvider, fails, responds, sends, streams

PATH = "/v1/responses"


async def register(sluice: Installation, provider: ScriptedProvider, **members: Any) -> dict[str, Any]:
    provider.default = responds("Hello you!")
    options = {"type": "openai", "native_responses": True, "prices": (1, 1)}
    return await sluice.add_model("public", provider.url, **options | members)


async def create(sluice: Installation, **members: Any) -> Any:
    return await sluice.post(PATH, {"model": "public", "input": "Hello"} | members)


async def streamed(sluice: Installation, **members: Any) -> list[dict[str, Any]]:
    response = await create(sluice, stream=True, **members)
    assert response.status == 200, await response.text()
    return checked(await read_events(response))


async def test_the_provider_gets_everything_it_has_to_know(sluice: Installation, provider: ScriptedProvider) -> None:
    await register(sluice, provider)
    first = await (await create(sluice, metadata={"a": "b"}, temperature=0.5, unknown={"x": 1})).json()
    await create(sluice, previous_response_id=first["id"], store=True, instructions="Be short.")

    hello = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    assert provider.requests[0] == {
        "model": "upstream-model", "input": [hello], "temperature": 0.5, "unknown": {"x": 1}, "store": False,
        "stream": False,
    }  # fmt: skip
    answer = {"type": "message", "role": "assistant", "content": first["output"][0]["content"]}
    assert provider.requests[1] == {
        "model": "upstream-model", "input": [hello, answer, hello], "instructions": "Be short.", "store": False,
        "stream": False,
    }  # fmt: skip


async def test_the_answer_has_our_ids(both: Installation, provider: ScriptedProvider) -> None:
    await register(both, provider)

    answer = await (await create(both, metadata={"a": "b"})).json()

    item = answer["output"][0]
    assert answer["id"].startswith("resp_0")
    assert item["id"].startswith("msg_0")
    assert (answer["model"], answer["metadata"], item["content"][0]["text"]) == ("public", {"a": "b"}, "Hello you!")
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (9, 3)
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [12]
    events = await log_of(both, answer["id"])
    assert kinds(events)[2:-1] == [
        "response.output_item.added", "response.content_part.added", "response.output_text.delta",
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
    ]  # fmt: skip
    assert events[-1]["response"] == answer


async def test_events_are_relayed_with_our_ids_and_numbers(both: Installation, provider: ScriptedProvider) -> None:
    await register(both, provider)

    for options, head in (({}, 2), ({"background": True}, 3)):
        events = await streamed(both, **options)

        answer = events[-1]["response"]
        assert kinds(events)[head:] == [
            "response.output_item.added", "response.content_part.added", "response.output_text.delta",
            "response.output_text.delta", "response.output_text.done", "response.content_part.done",
            "response.output_item.done", "response.completed",
        ]  # fmt: skip
        assert "resp_up" not in json.dumps(events)
        assert "msg_up" not in json.dumps(events)
        assert {event["item_id"] for event in events if "item_id" in event} == {answer["output"][0]["id"]}
        assert answer["usage"]["total_tokens"] == 12
        assert await log_of(both, answer["id"]) == events


async def test_what_the_provider_cut_is_incomplete(sluice: Installation, provider: ScriptedProvider) -> None:
    await register(sluice, provider)
    details = {"reason": "max_output_tokens"}
    provider.default = responds("Hello you!", status="incomplete", incomplete_details=details)

    whole = await (await create(sluice)).json()
    events = await streamed(sluice)

    for answer in (whole, events[-1]["response"]):
        assert (answer["status"], answer["incomplete_details"]) == ("incomplete", details)
    assert events[-1]["type"] == "response.incomplete"


async def test_a_reason_with_nul_can_be_stored(both: Installation, provider: ScriptedProvider) -> None:
    await register(both, provider)
    provider.default = responds("Hello you!", status="incomplete", incomplete_details={"reason": "a\x00b"})

    answer = await (await create(both)).json()

    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "ab"})
    assert len(provider.requests) == 1


async def test_details_of_the_usage_reach_the_ledger(sluice: Installation, provider: ScriptedProvider) -> None:
    await register(sluice, provider)
    provider.default = responds(
        "Hi",
        reported={
            "input_tokens": 9, "output_tokens": 30, "total_tokens": 39, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 20},
        },
    )  # fmt: skip

    answer = await (await create(sluice)).json()

    record = (await sluice.rows(UsageRecordRow))[0]
    assert (record.cached_tokens, record.reasoning_tokens, record.completion_tokens) == (4, 20, 30)
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] == 4
    assert answer["usage"]["output_tokens_details"] == {"reasoning_tokens": 20}


CREATED = {"type": "response.created", "sequence_number": 0, "response": {}}
DELTA = {
    "type": "response.reasoning_summary_text.delta", "sequence_number": 2, "item_id": "rs_up", "output_index": 0,
    "summary_index": 0, "delta": "Hm",
}  # fmt: skip
ADDED = {
    "type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
    "item": {"id": "rs_up", "type": "reasoning", "summary": []},
}  # fmt: skip
FAILED = {"id": "resp_up", "status": "failed", "output": [], "error": {"code": "server_error", "message": "boom"}}


async def test_events_that_are_not_known_here_are_relayed(sluice: Installation, provider: ScriptedProvider) -> None:
    await register(sluice, provider)
    item = {"id": "rs_up", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}
    over = {"id": "resp_up", "status": "completed", "output": [item], "usage": None}
    provider.default = streams(CREATED, ADDED, DELTA, {"type": "response.completed", "response": over})

    events = await streamed(sluice)

    ours = events[-1]["response"]["output"][0]["id"]
    assert ours.startswith("rs_0")
    assert events[3] == DELTA | {"sequence_number": 3, "item_id": ours}
    assert (await sluice.rows(UsageRecordRow))[0].is_estimated


@pytest.mark.parametrize(
    "last",
    [
        {"type": "response.failed", "response": FAILED},
        {"type": "error", "code": "server_error", "message": "boom", "param": None},
        {"type": "response.completed", "response": {"status": "completed"}},
        {"no": "type"},
    ],
)
async def test_a_failure_in_the_middle_ends_the_stream(
    sluice: Installation, provider: ScriptedProvider, last: dict[str, Any]
) -> None:
    await register(sluice, provider)
    provider.default = streams(CREATED, ADDED, DELTA, last)

    events = await streamed(sluice)

    assert kinds(events)[-2:] == ["error", "response.failed"]
    assert events[-1]["response"]["error"]["reason"] == "interrupted"
    assert "boom" not in json.dumps(events)
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_failure_before_the_first_output_is_tried_elsewhere(
    sluice: Installation, provider: ScriptedProvider, is_stream: bool
) -> None:
    first = await register(sluice, provider)
    await sluice.add_provider(first["router_id"])
    provider.default = streams(CREATED, {"type": "response.failed", "response": FAILED}) if is_stream else fails(500)

    for _ in range(30):  # until the dice choose the one that fails
        response = await create(sluice, stream=is_stream)
        assert response.status == 200
        await response.read()
        if provider.requests:
            break
    assert provider.requests


async def test_a_prompt_that_the_provider_finds_invalid_is_the_callers(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await register(sluice, provider)
    error = {"code": "invalid_prompt", "message": "No such prompt."}
    provider.default = sends(json.dumps(FAILED | {"error": error}).encode())

    response = await create(sluice)

    assert (response.status, (await response.json())["error"]["message"]) == (400, "No such prompt.")


async def test_only_providers_that_can_are_registered_as_native(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    created = await register(sluice, provider, native_responses=False)
    body = {"router": created["router_id"], "model_name": "m", "probe": False, "native_responses": True}

    refused = [
        await sluice.post("/v1/admin/providers", body | {"type": kind, "url": provider.url})
        for kind in ("mistral", "simulator")
    ]
    changed = await sluice.patch(f"/v1/admin/providers/{created['id']}", {"native_responses": True})

    assert [(response.status, (await response.json())["error"]["param"]) for response in refused] == [
        (422, "native_responses")
    ] * 2
    assert changed.status == 204
    assert (await (await sluice.get(f"/v1/admin/providers/{created['id']}")).json())["native_responses"] is True
    provider.default = responds("Hello you!")
    assert (await create(sluice)).status == 200
    assert provider.paths == [PATH]
