"""/v1/responses as objects: made, read, listed, cancelled, deleted; also as jobs."""

import asyncio
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.installation import Installation
from tests.people import add_user, key_of
from tests.waiting import eventually

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}


async def create(sluice: Installation, asked: Any = "Hello", **members: Any) -> Any:
    """Return the response to a request to the simulator, whose script is `simulator`."""
    headers = members.pop("headers", {})
    return await sluice.post(PATH, {"model": "simulator", "input": asked} | members, headers=headers)


async def created(sluice: Installation, asked: Any = "Hello", **members: Any) -> Any:
    """Return the object."""
    response = await create(sluice, asked, **members)
    assert response.status == 200, await response.text()
    return await response.json()


async def get(sluice: Installation, response_id: str, query: str = "") -> Any:
    response = await sluice.get(f"{PATH}/{response_id}{query}")
    assert response.status == 200, await response.text()
    return await response.json()


async def refusal(response: Any) -> tuple[int, str, str | None]:
    error = (await response.json())["error"]
    return response.status, error["code"], error["param"]


async def test_a_text_is_answered_with_every_member(both: Installation) -> None:
    answer = await created(both, simulator={"text": "Hello!"}, instructions="Be short.", metadata={"run": "nightly"})

    item_id = answer["output"][0].pop("id")
    assert item_id.startswith("msg_")
    assert len(item_id) == len("msg_") + 26
    assert answer["output"] == [
        {
            "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello!", "annotations": [], "logprobs": []}],
        }
    ]  # fmt: skip
    assert (answer["status"], answer["object"], answer["background"]) == ("completed", "response", False)
    assert (answer["instructions"], answer["metadata"]) == ("Be short.", {"run": "nightly"})
    assert answer["usage"]["output_tokens"] == 1
    assert answer["usage"]["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert answer["usage"]["total_tokens"] == answer["usage"]["input_tokens"] + 1
    assert answer["completed_at"] >= answer["created_at"]
    missing = {
        "error", "incomplete_details", "max_output_tokens", "max_tool_calls", "previous_response_id",
        "prompt_cache_key", "safety_identifier", "user",
    }  # fmt: skip
    assert {name for name, value in answer.items() if value is None} == missing
    assert await get(both, answer["id"]) == answer | {"output": [{"id": item_id, **answer["output"][0]}]}


async def test_a_response_is_a_job(both: Installation) -> None:
    response = await create(both, user="somebody", metadata={"a": "b"})
    answer = await response.json()

    job = await both.job(answer["id"])
    result = await (await both.get(f"/v1/jobs/{response.headers['x-job-id']}/result")).json()
    charges = await both.rows(ChargeRow)
    assert job["id"].removeprefix("job_") == answer["id"].removeprefix("resp_")
    assert (job["kind"], job["endpoint"], job["aliases"]) == ("response", PATH, [answer["id"]])
    assert (job["status"], job["user"], job["metadata"]) == ("completed", "somebody", {"a": "b"})
    assert result == answer
    assert [charge.kind for charge in charges] == ["response"]


async def test_prefer_and_jobs_make_a_response_that_nobody_waits_for(sluice: Installation) -> None:
    preferred = await create(sluice, headers={"Prefer": "respond-async"})
    body = {"model": "simulator", "input": "Hello", "background": True}
    posted = await sluice.post("/v1/jobs", {"endpoint": PATH, "body": body, "metadata": {"k": "v"}})

    jobs = [await preferred.json(), await posted.json()]
    answers = [await get(sluice, job["aliases"][0], "?wait=10") for job in jobs]
    assert [preferred.status, posted.status] == [202, 202]
    assert [job["kind"] for job in jobs] == ["response", "response"]
    assert [answer["status"] for answer in answers] == ["completed", "completed"]
    assert [answer["background"] for answer in answers] == [False, True]


async def test_a_response_in_the_background_is_answered_at_once(idle: Installation) -> None:
    response = await create(idle, background=True)

    answer = await response.json()
    again = await idle.get(f"{PATH}/{answer['id']}")
    job = await idle.job(answer["id"])
    assert (response.status, answer["status"], answer["output"], answer["usage"]) == (200, "queued", [], None)
    assert response.headers["x-job-id"].startswith("job_")
    assert await again.json() == answer
    assert int(again.headers["openai-poll-after-ms"]) > 0
    assert int(again.headers["retry-after"]) > 0
    assert (job["status"], job["band"]) == ("queued", "background")


async def test_a_response_in_the_background_is_read_when_it_is_done(both: Installation) -> None:
    queued = await created(both, background=True, simulator={"text": "Done.", "chunk_delay_ms": 20})

    answer = await get(both, queued["id"], "?wait=10")

    assert (answer["status"], answer["output"][0]["content"][0]["text"]) == ("completed", "Done.")
    assert answer["background"]


async def test_a_long_answer_is_cut_and_says_so(both: Installation) -> None:
    for options in ({}, {"background": True}):
        answer = await created(both, max_output_tokens=2, simulator={"text": "one two three"}, **options)
        answer = await get(both, answer["id"], "?wait=10")

        job = await both.job(answer["id"])
        assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert answer["output"][0]["status"] == "incomplete"
        assert answer["output"][0]["content"][0]["text"] == "one two"
        assert (job["status"], job["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert answer["usage"]["output_tokens"] == 2


async def test_functions_are_called(sluice: Installation) -> None:
    answer = await created(sluice, tools=[TOOL], tool_choice={"type": "function", "name": "get_weather"})

    call = answer["output"][0]
    assert call["id"].startswith("fc_")
    assert (call["type"], call["name"], call["arguments"], call["status"]) == (
        "function_call", "get_weather", "{}", "completed",
    )  # fmt: skip
    assert answer["tools"][0]["name"] == "get_weather"
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    after = await created(
        sluice, [result], previous_response_id=answer["id"], tools=[TOOL], simulator={"text": "Sunny."}
    )
    assert after["output"][0]["content"][0]["text"] == "Sunny."


async def test_a_failure_has_a_status_and_stays_readable(sluice: Installation) -> None:
    response = await create(sluice, simulator={"fail": "400"})

    answer = await get(sluice, response.headers["x-job-id"].replace("job_", "resp_"))
    assert (response.status, (await response.json())["error"]["code"]) == (400, "refused")
    assert (answer["status"], answer["output"], answer["usage"]) == ("failed", [], None)
    assert answer["error"] == {
        "code": "invalid_prompt", "message": "The simulator was told to refuse.", "reason": "refused",
    }  # fmt: skip


async def test_a_response_that_started_too_late_has_failed(idle: Installation) -> None:
    body = {"model": "simulator", "input": "Hello", "background": True}
    job = await (await idle.post("/v1/jobs", {"endpoint": PATH, "body": body, "start_timeout": 1})).json()

    expired = await idle.rows(JobRow)
    assert len(expired) == 1
    async with idle.state.database.transaction() as session:
        row = await session.get(JobRow, job["id"].removeprefix("job_"))
        assert row is not None
        row.status, row.finished_ms = "expired", row.created_ms
        row.error = (
            '{"message":"The job was not started before its deadline.","type":"server_error","param":null,'
            '"code":"job_expired","status":504}'
        )

    answer = await get(idle, job["aliases"][0])
    assert answer["status"] == "failed"
    assert answer["error"] == {
        "code": "server_error", "message": "The job was not started before its deadline.", "reason": "job_expired",
    }  # fmt: skip


async def test_a_queued_response_is_cancelled_at_once_and_again(idle: Installation) -> None:
    queued = await created(idle, background=True)

    answers = [await (await idle.post(f"{PATH}/{queued['id']}/cancel")).json() for _ in range(2)]

    assert [answer["status"] for answer in answers] == ["cancelled", "cancelled"]
    assert answers[0] == answers[1] == await get(idle, queued["id"])
    assert answers[0]["error"] is None


async def test_a_running_response_is_cancelled_and_charged_for_what_it_said(both: Installation) -> None:
    queued = await created(both, background=True, simulator={"tokens": 1000, "chunk_delay_ms": 20})
    await eventually(lambda: _has_output(both, queued["id"]))

    cancelled = await both.post(f"{PATH}/{queued['id']}/cancel")

    answer = await cancelled.json()
    assert (cancelled.status, answer["status"]) == (200, "cancelled")
    assert answer["usage"]["output_tokens"] > 0
    assert (await both.job(queued["id"]))["status"] == "cancelled"


async def _has_output(sluice: Installation, response_id: str) -> bool:
    return bool((await sluice.job(response_id))["progress"]["output_tokens"])


async def test_a_finished_response_stays_finished_when_cancelled(sluice: Installation) -> None:
    queued = await created(sluice, background=True)
    finished = await get(sluice, queued["id"], "?wait=10")

    cancelled = await sluice.post(f"{PATH}/{queued['id']}/cancel")

    assert (cancelled.status, await cancelled.json()) == (200, finished)


async def test_only_what_runs_in_the_background_can_be_cancelled(sluice: Installation) -> None:
    answer = await created(sluice)

    response = await sluice.post(f"{PATH}/{answer['id']}/cancel")

    assert await refusal(response) == (400, "not_cancellable", "response_id")
    assert "background=true" in (await response.json())["detail"]


async def test_a_deleted_response_was_here(both: Installation) -> None:
    answer = await created(both)

    deleted = await (await both.delete(f"{PATH}/{answer['id']}")).json()

    gone = await both.get(f"{PATH}/{answer['id']}")
    events = await both.get(f"{PATH}/{answer['id']}?stream=true")
    items = await both.get(f"{PATH}/{answer['id']}/input_items")
    chained = await create(both, previous_response_id=answer["id"])
    assert deleted == {"id": answer["id"], "object": "response", "deleted": True}
    assert await refusal(gone) == (410, "job_gone", None)
    assert (await gone.json())["tombstone"]["kind"] == "response"
    assert await refusal(events) == (410, "events_gone", None)
    assert [items.status, chained.status] == [410, 410]


async def test_a_running_response_is_cancelled_before_it_is_deleted(sluice: Installation) -> None:
    queued = await created(sluice, background=True, simulator={"tokens": 1000, "chunk_delay_ms": 50})
    await eventually(lambda: _has_output(sluice, queued["id"]))

    deleted = await sluice.delete(f"{PATH}/{queued['id']}")

    assert deleted.status == 200
    assert [row.status for row in await sluice.rows(JobRow)] == ["cancelled"]


async def test_what_is_not_stored_cannot_be_found(sluice: Installation) -> None:
    answer = await created(sluice, store=False)

    paths = [answer["id"], f"{answer['id']}/input_items", f"{answer['id']}?stream=true"]
    found = [await sluice.get(f"{PATH}/{path}") for path in paths]
    chained = await create(sluice, previous_response_id=answer["id"])
    assert answer["store"] is False
    assert [await refusal(one) for one in found] == [(404, "response_not_found", "response_id")] * 3
    assert await refusal(chained) == (404, "response_not_found", "previous_response_id")


async def test_another_users_response_is_not_found(sluice: Installation) -> None:
    answer = await created(sluice)
    user = await add_user(sluice, "someone@example.com", role=2)
    stranger = await key_of(sluice, user["id"])

    found = await sluice.client.get(f"{PATH}/{answer['id']}", headers=stranger)
    body = {"model": "simulator", "input": "Hi", "previous_response_id": answer["id"]}
    chained = await sluice.client.post(PATH, json=body, headers=stranger)
    item = {"type": "item_reference", "id": answer["output"][0]["id"]}
    referred = await sluice.client.post(PATH, json={"model": "simulator", "input": [item]}, headers=stranger)

    assert await refusal(found) == (404, "response_not_found", "response_id")
    assert await refusal(chained) == (404, "response_not_found", "previous_response_id")
    assert await refusal(referred) == (404, "item_not_found", "input.0.id")


@pytest.mark.parametrize("response_id", ["resp_1", "chatcmpl-x", "resp_" + "0" * 26, "%00"])
async def test_an_unknown_response_is_not_found(sluice: Installation, response_id: str) -> None:
    responses = [
        await sluice.get(f"{PATH}/{response_id}"),
        await sluice.get(f"{PATH}/{response_id}/input_items"),
        await sluice.post(f"{PATH}/{response_id}/cancel"),
        await sluice.delete(f"{PATH}/{response_id}"),
    ]

    assert [await refusal(one) for one in responses] == [(404, "response_not_found", "response_id")] * 4


async def test_a_chat_is_not_a_response(sluice: Installation) -> None:
    chat = await (await sluice.chat()).json()

    found = await sluice.get(f"{PATH}/{chat['id']}")

    assert await refusal(found) == (404, "response_not_found", "response_id")


AUDIO = {"type": "input_audio"}
REFUSED: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"input": None}, 422, "invalid_request", "input"),
    ({"input": []}, 422, "invalid_request", "input"),
    ({"input": [{"role": "king", "content": "x"}]}, 422, "invalid_request", "input.0.role"),
    ({"input": [{"role": "user"}]}, 422, "invalid_request", "input.0.content"),
    ({"input": [{"role": "user", "content": [AUDIO]}]}, 422, "invalid_request", "input.0.content.0.type"),
    ({"input": [{"type": "web_search_call"}]}, 422, "invalid_request", "input.0.type"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, 422, "invalid_request", "input.0.call_id"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, 404, "item_not_found", "input.0.id"),
    ({"max_output_tokens": 0}, 422, "invalid_request", "max_output_tokens"),
    ({"temperature": 3}, 422, "invalid_request", "temperature"),
    ({"metadata": {"a": 1}}, 422, "invalid_request", "metadata"),
    ({"truncation": "maybe"}, 422, "invalid_request", "truncation"),
    ({"text": {"format": {"type": "xml"}}}, 422, "invalid_request", "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, 422, "invalid_request", "text.format.schema"),
    ({"tools": [{"type": "function"}]}, 422, "invalid_request", "tools.0.name"),
    ({"tools": [{"type": "web_search"}]}, 400, "unsupported_tool", "tools.0.type"),
    ({"tool_choice": "sometimes"}, 422, "invalid_request", "tool_choice"),
    ({"tool_choice": {"type": "file_search"}}, 400, "unsupported_tool", "tool_choice.type"),
    ({"tool_choice": {"type": "function", "name": "x"}}, 422, "invalid_request", "tool_choice.name"),
    ({"conversation": "conv_1"}, 400, "unsupported_parameter", "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, 400, "unsupported_parameter", "prompt"),
    ({"background": True, "store": False}, 400, "unsupported_parameter", "store"),
    ({"previous_response_id": "resp_1"}, 404, "response_not_found", "previous_response_id"),
    ({"previous_response_id": "\x00"}, 404, "response_not_found", "previous_response_id"),
    ({"model": "nobody"}, 404, "model_not_found", "model"),
    ({"model": "simulator-embedding"}, 422, "wrong_model_type", "model"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "status", "code", "param"), REFUSED)
async def test_what_cannot_be_served_is_refused(
    sluice: Installation, members: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    response = await create(sluice, **members)

    assert await refusal(response) == (status, code, param)
    assert "x-job-id" not in response.headers
    assert await sluice.rows(JobRow) == []


async def test_a_number_that_nobody_can_hold_is_refused(sluice: Installation) -> None:
    raw = b'{"model": "simulator", "input": [{"role": "user", "content": "x", "y": 1e999}]}'
    headers = sluice.headers | {"Content-Type": "application/json"}

    response = await sluice.client.post(PATH, data=raw, headers=headers)

    assert await refusal(response) == (422, "invalid_request", "input.0")


async def test_an_idempotency_key_finds_the_response_in_the_background(both: Installation) -> None:
    key = {"Idempotency-Key": "abc"}
    first = await created(both, background=True, headers=key)
    await get(both, first["id"], "?wait=10")

    again = await create(both, background=True, headers=key)
    other = await create(both, "Something else", background=True, headers=key)

    assert again.headers["Idempotency-Replayed"] == "true"
    assert ((await again.json())["id"], (await again.json())["status"]) == (first["id"], "completed")
    assert await refusal(other) == (422, "idempotency_key_reused", "Idempotency-Key")
    assert len(await both.rows(JobRow)) == 1


async def test_a_hundred_responses_at_once_are_a_hundred_jobs(sluice: Installation) -> None:
    answers = await asyncio.gather(*(created(sluice, f"Number {number}") for number in range(100)))

    assert len({answer["id"] for answer in answers}) == 100
    assert len(await sluice.rows(ChargeRow)) == 100
