"""Responses as lines of batches, as repetitions of stock clients, and as retried jobs."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientTimeout

from shared.jobs.tables import JobRow
from tests.batches import ended, lines_of, make_batch
from tests.installation import Installation
from tests.providers import ScriptedProvider, fails, says
from tests.waiting import eventually

PATH = "/v1/responses"


def line(custom_id: str, asked: Any, **members: Any) -> dict[str, Any]:
    body = {"model": "simulator", "input": asked} | members
    return {"custom_id": custom_id, "method": "POST", "url": PATH, "body": body}


async def test_a_batch_of_responses_is_answered_line_by_line(both: Installation) -> None:
    lines = [line(f"r{n}", f"Say {n}", simulator={"text": f"Said {n}"}) for n in range(20)]
    lines.append(line("cut", "Say more", max_output_tokens=1))
    lines.append(line("bad", "Say it", simulator={"fail": "400"}))

    batch = await make_batch(both, *lines, endpoint=PATH)
    done = await ended(both, batch["id"])

    assert done["request_counts"] == {"total": 22, "completed": 21, "failed": 1}
    output = await lines_of(both, done["output_file_id"])
    bodies = [one["response"]["body"] for one in output]
    assert [body["output"][0]["content"][0]["text"] for body in bodies[:20]] == [f"Said {n}" for n in range(20)]
    assert [one["custom_id"] for one in output] == [f"r{n}" for n in range(20)] + ["cut"]
    assert (bodies[20]["status"], bodies[20]["incomplete_details"]) == (
        "incomplete", {"reason": "max_output_tokens"},
    )  # fmt: skip
    (error,) = await lines_of(both, done["error_file_id"])
    assert (error["custom_id"], error["response"]["status_code"]) == ("bad", 400)
    assert len({body["output"][0]["id"] for body in bodies}) == 21


async def test_items_of_a_batch_are_referred_to_and_continued(both: Installation, provider: ScriptedProvider) -> None:
    batch = await make_batch(both, *(line(f"r{n}", f"Say {n}") for n in range(5)), endpoint=PATH)
    done = await ended(both, batch["id"])
    answers = [one["response"]["body"] for one in await lines_of(both, done["output_file_id"])]
    await both.add_model("public", provider.url)

    asked = [{"type": "item_reference", "id": answer["output"][0]["id"]} for answer in answers]
    referred = await both.post(PATH, {"model": "public", "input": asked})
    chained = await both.post(PATH, {"model": "public", "input": "And?", "previous_response_id": answers[3]["id"]})

    texts = [answer["output"][0]["content"][0]["text"] for answer in answers]
    assert (referred.status, chained.status) == (200, 200)
    assert [message["content"] for message in provider.requests[0]["messages"]] == texts
    assert [message["content"] for message in provider.requests[1]["messages"]] == ["Say 3", texts[3], "And?"]
    page = await (await both.get(f"{PATH}/{answers[2]['id']}/input_items")).json()
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "Say 2"}]


async def test_a_line_in_the_background_is_a_line_like_others(both: Installation) -> None:
    batch = await make_batch(both, line("a", "Hello", background=True, simulator={"text": "x"}), endpoint=PATH)

    done = await ended(both, batch["id"])

    (output,) = await lines_of(both, done["output_file_id"])
    assert output["response"]["body"]["status"] == "completed"


async def test_what_a_line_cannot_ask_for_is_told_with_its_number(both: Installation) -> None:
    lines = [
        line("a", "x", stream=True), line("b", []), line("c", "x", conversation="conv_1"),
        line("d", "x", previous_response_id="resp_1"), line("e", "fine"),
    ]  # fmt: skip

    batch = await make_batch(both, *lines, endpoint=PATH)
    done = await ended(both, batch["id"])

    assert done["status"] == "failed"
    assert [(error["line"], error["param"]) for error in done["errors"]["data"]] == [
        (1, "body.stream"), (2, "body.input"), (3, "body.conversation"), (4, "body.previous_response_id"),
    ]  # fmt: skip


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_stock_client_that_repeats_joins_its_response(both: Installation, is_stream: bool) -> None:
    first = await (await both.post(PATH, {"model": "simulator", "input": "One"})).json()
    body = {"model": "simulator", "input": "Two", "previous_response_id": first["id"], "stream": is_stream}
    body |= {"simulator": {"delay_ms": 1000, "text": "Said."}}
    with pytest.raises(asyncio.TimeoutError):
        await both.client.post(PATH, json=body, headers=both.headers, timeout=ClientTimeout(total=0.3))

    again = await both.post(PATH, body, headers={"x-stainless-retry-count": "1"})

    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert "Said." in await again.text()
    assert again.content_type == ("text/event-stream" if is_stream else "application/json")
    assert len(await both.rows(JobRow)) == 2


async def test_a_retry_continues_what_was_deleted_meanwhile(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url)
    first = await (await both.post(PATH, {"model": "public", "input": "One"})).json()
    provider.script = [fails(400, "no")]
    body = {"model": "public", "input": "Two", "previous_response_id": first["id"], "background": True}
    second = await (await both.post(PATH, body)).json()
    await both.get(f"{PATH}/{second['id']}?wait=10")
    await both.delete(f"{PATH}/{first['id']}")
    provider.default = says("Better.")

    retried = await both.post(f"/v1/jobs/{second['id']}/retry")

    job = await retried.json()
    assert retried.status == 202
    assert await eventually(lambda: _is_completed(both, job["id"]))
    third = await (await both.get(f"{PATH}/{job['aliases'][0]}")).json()
    assert (third["output"][0]["content"][0]["text"], third["background"]) == ("Better.", True)
    assert [message["content"] for message in provider.requests[-1]["messages"]] == ["One", "Hello!", "Two"]


async def _is_completed(sluice: Installation, job_id: str) -> bool:
    return bool((await sluice.job(job_id))["status"] == "completed")
