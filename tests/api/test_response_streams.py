"""The typed events of responses: while they are made, resumed, replayed, and of responses that were not streamed."""

import json
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from tests.events import Event, parse_events, read_events
from tests.installation import Installation
from tests.providers import ScriptedProvider, chunk, streams, usage
from tests.waiting import eventually

PATH = "/v1/responses"
TEXT_EVENTS = [
    "response.output_item.added", "response.content_part.added", "response.output_text.delta",
    "response.output_text.delta", "response.output_text.done", "response.content_part.done",
    "response.output_item.done",
]  # fmt: skip


async def stream(sluice: Installation, **members: Any) -> list[dict[str, Any]]:
    """Return the events of a streamed response, which are checked as every stream's are."""
    headers = members.pop("headers", {})
    response = await sluice.post(
        PATH, {"model": "simulator", "input": "Hello", "stream": True} | members, headers=headers
    )
    assert response.status == 200, await response.text()
    assert response.content_type == "text/event-stream"
    return checked(await read_events(response))


def checked(events: list[Event], start: int = 0) -> list[dict[str, Any]]:
    """Return the documents of events that are named and numbered without gaps."""
    documents = [json.loads(event.data) for event in events]
    assert [event.event for event in events] == [document["type"] for document in documents]
    assert [event.id for event in events] == [str(document["sequence_number"]) for document in documents]
    assert [document["sequence_number"] for document in documents] == list(range(start, start + len(documents)))
    return documents


async def log_of(sluice: Installation, response_id: str, query: str = "", **headers: str) -> list[dict[str, Any]]:
    """Return the events as read again later."""
    response = await sluice.get(f"{PATH}/{response_id}?stream=true{query}", headers=headers)
    assert response.status == 200, await response.text()
    events = await read_events(response)
    return checked(events, int(events[0].id or 0))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_a_text_is_streamed_as_typed_events(both: Installation) -> None:
    events = await stream(both, simulator={"text": "Hello you!"})

    assert kinds(events) == ["response.created", "response.in_progress", *TEXT_EVENTS, "response.completed"]
    response = events[-1]["response"]
    item = response["output"][0]
    assert [event["response"]["status"] for event in (*events[:2], events[-1])] == [
        "in_progress", "in_progress", "completed",
    ]  # fmt: skip
    assert {event["response"]["id"] for event in (*events[:2], events[-1])} == {response["id"]}
    assert events[2]["item"] == {
        "id": item["id"], "type": "message", "status": "in_progress", "role": "assistant", "content": [],
    }  # fmt: skip
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    expected = [
        {"part": part}, {"delta": "Hello", "logprobs": []}, {"delta": " you!", "logprobs": []},
        {"text": "Hello you!", "logprobs": []}, {"part": part | {"text": "Hello you!"}},
    ]  # fmt: skip
    for event, members in zip(events[3:8], expected, strict=True):
        assert event == {"type": event["type"], "sequence_number": event["sequence_number"]} | where | members
    assert events[8]["item"] == item
    assert response == await (await both.get(f"{PATH}/{response['id']}")).json()


async def test_a_response_in_the_background_is_queued_first(both: Installation) -> None:
    events = await stream(both, background=True, simulator={"text": "Hello you!"})

    head = ["response.created", "response.queued", "response.in_progress"]
    assert kinds(events) == [*head, *TEXT_EVENTS, "response.completed"]
    assert [event["response"]["status"] for event in events[:3]] == ["queued", "queued", "in_progress"]


async def test_the_first_events_in_the_background_need_no_worker(idle: Installation) -> None:
    body = {"model": "simulator", "input": "Hello", "stream": True, "background": True}
    response = await idle.post(PATH, body)

    first = parse_events(
        (await response.content.readuntil(b"\n\n") + await response.content.readuntil(b"\n\n")).decode()
    )
    response.close()
    response_id = json.loads(first[0].data)["response"]["id"]
    assert kinds(checked(first)) == ["response.created", "response.queued"]
    assert (await (await idle.get(f"{PATH}/{response_id}")).json())["status"] == "queued"


@pytest.mark.parametrize("background", [False, True])
async def test_the_log_is_the_stream(both: Installation, background: bool) -> None:
    events = await stream(both, background=background, simulator={"tokens": 30})
    response_id = events[0]["response"]["id"]

    assert await log_of(both, response_id) == events
    for after in (0, 1, 7, len(events) - 2):
        assert await log_of(both, response_id, f"&starting_after={after}") == events[after + 1 :]
        assert await log_of(both, response_id, **{"Last-Event-ID": str(after)}) == events[after + 1 :]


async def test_a_response_that_was_not_streamed_has_a_log(both: Installation) -> None:
    body = {"model": "simulator", "input": "Hello", "simulator": {"text": "Hello you!"}}
    answer = await (await both.post(PATH, body)).json()

    events = await log_of(both, answer["id"])

    assert kinds(events) == [
        "response.created", "response.in_progress", *TEXT_EVENTS[:3], *TEXT_EVENTS[4:], "response.completed",
    ]  # fmt: skip
    assert events[-1]["response"] == answer


async def test_a_running_response_is_followed_from_any_event(both: Installation) -> None:
    body = {"model": "simulator", "input": "Hi", "background": True, "simulator": {"tokens": 40, "chunk_delay_ms": 20}}
    answer = await (await both.post(PATH, body)).json()
    live = await both.get(f"{PATH}/{answer['id']}?stream=true")
    seen = parse_events((await live.content.readuntil(b"id: 9\n")).decode() + "\n")
    live.close()

    rest = await log_of(both, answer["id"], "&starting_after=7")

    whole = await log_of(both, answer["id"])
    assert rest[0]["sequence_number"] == 8
    assert [json.loads(event.data) for event in seen] == whole[: len(seen)]
    assert rest == whole[8:]
    assert (
        "".join(event.get("delta", "") for event in whole) == whole[-1]["response"]["output"][0]["content"][0]["text"]
    )


async def test_behind_the_end_there_is_nothing(sluice: Installation) -> None:
    events = await stream(sluice)
    response_id = events[0]["response"]["id"]

    responses = [
        await sluice.get(f"{PATH}/{response_id}?stream=true&starting_after={after}")
        for after in (len(events) - 1, len(events) + 100)
    ]

    assert [(response.status, await response.read()) for response in responses] == [(204, b"")] * 2


@pytest.mark.parametrize("cursor", ["-1", "x", "1-3", "9" * 30])
async def test_a_cursor_nobody_gave_out_is_refused(sluice: Installation, cursor: str) -> None:
    events = await stream(sluice)
    url = f"{PATH}/{events[0]['response']['id']}?stream=true"

    query = await sluice.get(f"{url}&starting_after={cursor}")
    header = await sluice.get(url, headers={"Last-Event-ID": cursor})

    assert (query.status, (await query.json())["error"]["code"]) == (422, "invalid_request")
    assert (header.status, (await header.json())["error"]["code"]) == (400, "invalid_cursor")


async def test_a_failure_before_the_first_output_is_a_status(sluice: Installation) -> None:
    body = {"model": "simulator", "input": "Hello", "stream": True, "simulator": {"fail": "400"}}
    response = await sluice.post(PATH, body)

    assert (response.status, (await response.json())["error"]["code"]) == (400, "refused")
    events = await log_of(sluice, response.headers["x-job-id"].replace("job_", "resp_"))
    assert kinds(events) == ["response.created", "response.failed"]


async def test_a_failure_in_the_background_is_an_event(both: Installation) -> None:
    events = await stream(both, background=True, simulator={"fail": "400"})

    assert kinds(events) == ["response.created", "response.queued", "response.failed"]
    assert events[-1]["response"]["error"]["reason"] == "refused"
    assert await log_of(both, events[0]["response"]["id"]) == events


@pytest.mark.parametrize("fail", ["cut", "malformed"])
async def test_an_error_in_the_middle_is_told_and_then_the_end(both: Installation, fail: str) -> None:
    events = await stream(both, simulator={"fail": fail, "tokens": 20})

    assert kinds(events)[-2:] == ["error", "response.failed"]
    error = {name: events[-2][name] for name in ("code", "message", "param")}
    assert error == {"code": "server_error", "message": "The provider broke the answer off.", "param": None}
    assert events[-1]["response"]["error"]["reason"] == "interrupted"
    assert events[-1]["response"]["status"] == "failed"
    assert await log_of(both, events[0]["response"]["id"]) == events


async def test_a_cancelled_response_ends_as_failed_with_its_own_status(both: Installation) -> None:
    body = {"model": "simulator", "input": "Hi", "stream": True, "background": True}
    response = await both.post(PATH, body | {"simulator": {"tokens": 1000, "chunk_delay_ms": 20}})
    read = await response.content.readuntil(b"output_text.delta")
    response_id = json.loads(parse_events(read.decode())[0].data)["response"]["id"]

    await both.post(f"{PATH}/{response_id}/cancel")

    events = checked(parse_events((read + await response.read()).decode()))
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "cancelled"
    assert "error" not in kinds(events)
    assert await log_of(both, response_id) == events


async def test_a_follower_learns_that_the_response_was_deleted(sluice: Installation) -> None:
    body = {"model": "simulator", "input": "Hi", "background": True}
    answer = await (await sluice.post(PATH, body | {"simulator": {"tokens": 1000, "chunk_delay_ms": 20}})).json()
    response = await sluice.get(f"{PATH}/{answer['id']}?stream=true")
    read = await response.content.readuntil(b"output_text.delta")

    await sluice.delete(f"{PATH}/{answer['id']}")

    events = checked(parse_events((read + await response.read()).decode()))
    assert events[-1]["type"] in ("error", "response.failed")


async def test_a_response_cancelled_in_the_queue_has_events(idle: Installation) -> None:
    answer = await (await idle.post(PATH, {"model": "simulator", "input": "Hi", "background": True})).json()
    await idle.post(f"{PATH}/{answer['id']}/cancel")

    events = await log_of(idle, answer["id"])

    assert kinds(events) == ["response.created", "response.queued", "response.failed"]
    assert events[-1]["response"]["status"] == "cancelled"


async def test_a_stream_in_the_background_goes_on_without_its_reader(sluice: Installation) -> None:
    body = {"model": "simulator", "input": "Hi", "stream": True, "background": True}
    response = await sluice.post(PATH, body | {"simulator": {"text": "a b c d e f", "chunk_delay_ms": 50}})
    read = await response.content.readuntil(b"output_text.delta")
    response.close()
    response_id = json.loads(parse_events(read.decode())[0].data)["response"]["id"]

    answer = await (await sluice.get(f"{PATH}/{response_id}?wait=10")).json()

    assert (answer["status"], answer["output"][0]["content"][0]["text"]) == ("completed", "a b c d e f")


async def test_silence_is_filled_with_comments(settings_with_short_silence: Installation) -> None:
    sluice = settings_with_short_silence
    body = {"model": "simulator", "input": "Hi", "simulator": {"delay_ms": 1000, "text": "x"}}

    for options in ({"stream": True}, {"stream": True, "background": True}):
        text = await (await sluice.post(PATH, body | options)).text()
        assert ": keep-alive\n\n" in text
        checked(parse_events(text))
    slow = {"background": True, "simulator": {"delay_ms": 2500, "text": "x"}}
    answer = await (await sluice.post(PATH, body | slow)).json()
    assert ": keep-alive\n\n" in await (await sluice.get(f"{PATH}/{answer['id']}?stream=true")).text()


async def test_a_stream_is_replayed_for_its_idempotency_key(sluice: Installation) -> None:
    key = {"Idempotency-Key": "k"}
    first = await stream(sluice, headers=key)

    assert await stream(sluice, headers=key) == first


async def test_a_cut_answer_ends_as_incomplete(sluice: Installation) -> None:
    events = await stream(sluice, max_output_tokens=2, simulator={"text": "one two three"})

    assert kinds(events)[-2:] == ["response.output_item.done", "response.incomplete"]
    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


CALLS = [
    chunk({"role": "assistant", "reasoning_content": "Hm"}),
    chunk({"reasoning_content": "m."}),
    chunk({"content": "Let me see."}),
    chunk({"tool_calls": [{"index": 0, "id": "call_a", "function": {"name": "get_weather", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
    chunk({"tool_calls": [{"index": 1, "id": "call_b", "function": {"name": "get_time", "arguments": "{}"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Lyon"}'}}]}),
    chunk({}, "tool_calls"),
    chunk({}, choices=[], usage=usage(9, 3, prompt_tokens_details={"cached_tokens": 4})),
]


async def test_reasoning_text_and_calls_become_items_of_their_own(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url, prices=(1, 1))
    provider.default = streams(*CALLS)

    events = await stream(sluice, model="public")

    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in output[2:]] == [
        ("call_a", "get_weather", '{"city":"Lyon"}'), ("call_b", "get_time", "{}"),
    ]  # fmt: skip
    by_item = [
        [event["type"].removeprefix("response.") for event in events if event.get("output_index") == place]
        for place in range(4)
    ]
    assert by_item[0] == [
        "output_item.added", "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done", "output_item.done",
    ]  # fmt: skip
    assert by_item[2] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == output
    assert events[-1]["response"]["usage"]["input_tokens_details"]["cached_tokens"] == 4


async def test_a_refusal_is_a_part_of_the_message(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    provider.default = streams(chunk({"refusal": "I will"}), chunk({"refusal": " not."}), chunk({}, "content_filter"))

    events = await stream(sluice, model="public")

    part = {"type": "refusal", "refusal": "I will not."}
    assert [event["delta"] for event in events if event["type"] == "response.refusal.delta"] == ["I will", " not."]
    assert events[-1]["response"]["output"][0]["content"] == [part]
    assert events[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}


async def test_an_empty_answer_is_an_empty_message(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    provider.default = streams(chunk({"role": "assistant"}), chunk({}, "stop"))

    events = await stream(sluice, model="public")

    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


async def test_output_frames_of_the_job_are_events(sluice: Installation) -> None:
    events = await stream(sluice)
    job_id = events[0]["response"]["id"].replace("resp_", "job_")

    response = await sluice.get(f"/v1/jobs/{job_id}/events")

    frames = [json.loads(event.data) for event in await read_events(response) if event.event is None]
    assert frames == events[1:-1]


async def test_a_stream_that_nobody_reads_is_cancelled_unless_it_is_in_the_background(sluice: Installation) -> None:
    body = {"model": "simulator", "input": "Hi", "stream": True, "simulator": {"tokens": 5000, "chunk_delay_ms": 10}}
    jobs = []
    for options in ({}, {"store": True}, {"background": True}):
        response = await sluice.post(PATH, body | options)
        jobs.append(response.headers["x-job-id"])
        response.close()

    rows = {"job_" + row.id: row.cancel_when_unread for row in await sluice.rows(JobRow)}
    assert [rows[job] for job in jobs] == [True, False, False]
    for job in jobs:
        await sluice.post(f"/v1/jobs/{job}/cancel")
    await eventually(lambda: _all_over(sluice, jobs))


async def _all_over(sluice: Installation, jobs: list[str]) -> bool:
    return all([(await sluice.job(job))["status"] == "cancelled" for job in jobs])
