"""Providers that fail: who is told what, what is tried again, what is charged."""

import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from shared.request_logs.tables import RequestLogRow
from shared.usage.tables import ChargeRow
from tests.events import read_events
from tests.faults.processes import free_port
from tests.installation import Installation
from tests.providers import Behaviour, ScriptedProvider, chunk, fails, in_pieces, says, sends, streams
from tests.waiting import eventually

REQUEST_ERRORS = [
    (b'{"error":{"message":"too long","type":"x","param":"messages","code":"context_length_exceeded"}}', "too long"),
    (b'{"message":"too long"}', "too long"),
    (b'{"detail":"too long"}', "too long"),
    (b"too long", "too long"),
]


async def attempts_of(sluice: Installation) -> list[RequestLogRow]:
    return sorted(await sluice.rows(RequestLogRow), key=lambda row: row.attempt)


@pytest.mark.parametrize(("body", "message"), REQUEST_ERRORS)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_error_about_the_request_reaches_the_caller(
    sluice: Installation, provider: ScriptedProvider, body: bytes, message: str, is_stream: bool
) -> None:
    provider.default = sends(body, status=422)
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public", stream=is_stream)

    answer = await response.json()
    assert response.status == 422
    assert answer["error"]["message"] == answer["detail"] == message
    assert answer["error"]["type"] == "invalid_request_error"
    assert response.headers["x-should-retry"] == "false"
    assert len(provider.requests) == 1
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]


@pytest.mark.parametrize("status", [429, 500, 503, 408])
async def test_a_passing_failure_is_tried_again(both: Installation, provider: ScriptedProvider, status: int) -> None:
    provider.script = [fails(status)]
    await both.add_model("public", provider.url, prices=(1, 1))

    response = await both.chat(model="public")

    assert response.status == 200
    assert [row.status for row in await attempts_of(both)] == ["failed", "succeeded"]
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [12]


async def test_an_outage_ends_with_503_and_a_time_to_come_back(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = fails(500, "secret details")
    await both.add_model("public", provider.url, prices=(1, 1))

    response = await both.chat(model="public")

    answer = await response.json()
    assert response.status == 503
    assert answer["error"]["code"] == "provider_unavailable"
    assert "secret" not in json.dumps(answer)
    assert int(response.headers["retry-after"]) >= 1
    assert len(provider.requests) == 3
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [0]
    assert [job.status for job in await both.rows(JobRow)] == ["failed"]


async def test_an_attempt_tells_what_the_provider_said_and_the_job_does_not(
    both: Installation, provider: ScriptedProvider
) -> None:
    said = f"CUDA out of memory on gpu 3 of {provider.url}v1, see http://10.1.2.3:8000/x and 10.1.2.4, key sk-upstream"
    provider.default = fails(500, said)
    await both.add_model("public", provider.url, key="sk-upstream")

    response = await both.chat(model="public")

    path = f"/v1/jobs/{response.headers['x-job-id']}"
    attempts = (await (await both.get(f"{path}/attempts")).json())["data"]
    (log,) = [one for one in (await (await both.get("/v1/request_logs")).json())["data"] if one["attempt"] == 3]
    shown = await (await both.get(f"/v1/request_logs/{log['id']}?include=response")).json()
    (asked, *_) = (await (await both.post("/v1/requests", {"period": 15})).json())["requests"]
    assert [(one["retry_reason"], one["http_status"]) for one in attempts] == [("http_5xx", 500)] * 3
    assert {one["error"]["code"] for one in attempts} == {"provider_error"}
    assert {one["error"]["message"] for one in attempts} == {
        "CUDA out of memory on gpu 3 of [...]/v1, see [...] and [...], key [...]"
    }
    assert (log["error_code"], log["http_status"]) == ("provider_unavailable", 500)
    for told in (await response.text(), await (await both.get(path)).text(), json.dumps(shown), json.dumps(asked)):
        assert "CUDA" not in told
        assert "provider_unavailable" in told


async def test_an_attempt_does_not_tell_where_a_provider_was_sought(sluice: Installation) -> None:
    await sluice.add_model("public", f"http://127.0.0.1:{free_port()}/")

    response = await sluice.chat(model="public")

    attempts = (await (await sluice.get(f"/v1/jobs/{response.headers['x-job-id']}/attempts")).json())["data"]
    assert {one["error"]["message"] for one in attempts} == {"The provider cannot be reached: ClientConnectorError"}


async def test_the_providers_wish_to_wait_is_obeyed_or_passed_on(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = fails(429, **{"Retry-After": "60"})
    await sluice.add_model("public", provider.url)
    await sluice.add_model("other", provider.url)

    waiting = await sluice.chat(model="public")
    accepted = await sluice.chat(model="other", headers={"Prefer": "respond-async"})

    assert (waiting.status, (await waiting.json())["error"]["code"]) == (503, "model_busy")
    job_id = (await accepted.json())["id"]
    job = await eventually(lambda: waits_for_retry(sluice, job_id))
    assert job["next_attempt_at"] - job["created_at"] >= 59
    await sluice.post(f"/v1/jobs/{job_id}/cancel")


async def test_the_wish_to_wait_may_be_a_date(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = fails(429, **{"Retry-After": formatdate(time.time() + 60, usegmt=True)})
    await sluice.add_model("public", provider.url)

    accepted = await sluice.chat(model="public", headers={"Prefer": "respond-async"})

    job_id = (await accepted.json())["id"]
    job = await eventually(lambda: waits_for_retry(sluice, job_id))
    assert 50 <= job["next_attempt_at"] - job["created_at"] <= 61
    await sluice.post(f"/v1/jobs/{job_id}/cancel")


@pytest.mark.parametrize("wish", ["nan", "inf", "soon", "", "-5", "Mon, 99 Nov 2026 10:00:00 GMT"])
async def test_a_wish_that_means_nothing_is_ignored(
    sluice: Installation, provider: ScriptedProvider, wish: str
) -> None:
    provider.script = [fails(429, **{"Retry-After": wish})]
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public")

    assert (response.status, len(provider.requests)) == (200, 2)


async def test_an_error_that_comes_in_pieces_is_read_whole(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = in_pieces(b'{"error":', b' {"message": "too hot"}}', status=400)
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public")

    assert (response.status, (await response.json())["detail"]) == (400, "too hot")


async def waits_for_retry(sluice: Installation, job_id: str) -> Any:
    job = await sluice.job(job_id)
    return job if job["next_attempt_at"] else None


async def test_a_provider_that_cannot_be_reached_is_left_for_another(sluice: Installation) -> None:
    first = await sluice.add_model("public", "http://127.0.0.1:9", model_name="nobody")
    await sluice.add_provider(first["router_id"])

    answers = [await sluice.chat(model="public") for _ in range(6)]

    assert [answer.status for answer in answers] == [200] * 6


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_fault_of_the_operator_is_not_shown_as_one_of_the_caller(
    sluice: Installation, provider: ScriptedProvider, status: int
) -> None:
    provider.default = fails(status, "Incorrect API key sk-upstream")
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public")

    assert response.status == 503
    assert "sk-upstream" not in await response.text()
    assert len(provider.requests) == 1


MALFORMED: list[Behaviour] = [
    sends(b"<html>"),
    sends(b'{"choices": [}'),
    sends(b"{}"),
    sends(b"[]"),
    sends(b'{"choices": null}'),
    sends(b""),
    sends(b"\xff"),
    sends(b'{"choices": [{"index": 0, "message": {"content": "Hi", "unread": "\xff"}}]}'),
    sends(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": []}}'),
    sends(b'{"choices": [{"index": 0, "message": {"content": "\xff"}}]}'),
]


@pytest.mark.parametrize("behaviour", MALFORMED)
async def test_a_malformed_answer_is_a_failure_of_the_provider(
    sluice: Installation, provider: ScriptedProvider, behaviour: Behaviour
) -> None:
    provider.script = [behaviour]
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public")

    assert response.status == 200
    assert [row.retry_reason for row in await attempts_of(sluice)] == ["malformed", None]


FIRST = chunk({"role": "assistant", "content": "one"})
BROKEN: list[Behaviour] = [
    streams(FIRST, done=False),
    streams(FIRST, cut=True),
    streams(FIRST, {"error": {"message": "boom"}}),
    sends(b"data: " + json.dumps(FIRST).encode() + b"\n\ndata: {broken\n\n", "text/event-stream"),
    sends(b"data: " + json.dumps(FIRST).encode() + b'\n\ndata: {"\xff": 1}\n\n', "text/event-stream"),
]


@pytest.mark.parametrize("behaviour", BROKEN)
async def test_a_stream_that_breaks_ends_with_an_error_event_and_is_charged_nothing(
    both: Installation, provider: ScriptedProvider, behaviour: Behaviour
) -> None:
    provider.default = behaviour
    await both.add_model("public", provider.url, prices=(1, 1))

    response = await both.chat(model="public", stream=True)

    events = await read_events(response)
    assert response.status == 200
    assert json.loads(events[0].data)["choices"][0]["delta"]["content"] == "one"
    assert json.loads(events[-1].data)["error"]["code"] == "interrupted"
    assert len(provider.requests) == 1
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [0]
    job = await both.job(response.headers["x-job-id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "interrupted")


@pytest.mark.parametrize("mount", ["", "/vultr", "/nec", "/inflection"])
async def test_a_stream_breaks_with_the_whole_error_of_its_api(
    sluice: Installation, provider: ScriptedProvider, mount: str
) -> None:
    provider.default = streams(FIRST, cut=True)
    await sluice.add_model("public", provider.url)
    body = {"model": "public", "messages": [{"role": "user", "content": "Hi"}], "stream": True}

    response = await sluice.post(mount + "/v1/chat/completions", body)

    error = json.loads((await read_events(response))[-1].data)
    told = {"detail": error["error"]["message"], "message": error["error"]["message"]}
    assert error["error"]["code"] == "interrupted"
    assert error == {"error": error["error"], **(told if mount == "/vultr" else {"detail": told["detail"]})}
    replay = await sluice.get(f"/v1/jobs/{response.headers['x-job-id']}/result")
    assert (await replay.json())["error"] == error["error"]


async def test_a_provider_that_falls_silent_between_two_chunks_is_given_up(
    both: Installation, provider: ScriptedProvider
) -> None:
    provider.default = streams(chunk({"content": "one"}), delay_s=3600)
    await both.add_model("public", provider.url, timeout=1, prices=(1, 1))

    response = await both.chat(model="public", stream=True)

    events = await read_events(response)
    assert json.loads(events[0].data)["choices"][0]["delta"]["content"] == "one"
    assert json.loads(events[-1].data)["error"]["code"] == "interrupted"
    assert [(row.status, row.retry_reason) for row in await attempts_of(both)] == [("failed", "timeout")]
    assert len(provider.requests) == 1
    assert await eventually(lambda: provider.running == 0)
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [0]


async def test_a_slow_stream_may_take_longer_than_the_timeout_of_its_provider(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = says("one two three four five", delay_s=0.3)
    await sluice.add_model("public", provider.url, timeout=1)

    events = await read_events(await sluice.chat(model="public", stream=True))

    assert events[-1].data == "[DONE]"
    assert len(provider.requests) == 1


async def test_a_stream_that_fails_before_its_first_chunk_is_tried_again(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.script = [fails(500), streams(done=True), says("ok")]
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public", stream=True)

    events = await read_events(response)
    assert json.loads(events[0].data)["choices"][0]["delta"]["content"] == "ok"
    assert events[-1].data == "[DONE]"


@pytest.mark.parametrize("fail", ["429", "500", "timeout", "cut", "malformed"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_simulator_fails_on_demand(sluice: Installation, fail: str, is_stream: bool) -> None:
    response = await sluice.chat(stream=is_stream, simulator={"fail": fail, "delay_ms": 1})

    job = await (await sluice.get(f"/v1/jobs/{response.headers['x-job-id']}?wait=10")).json()
    await response.read()
    assert job["status"] == "failed"
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]


async def test_a_deleted_router_ends_its_queued_jobs(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = fails(500)
    created = await sluice.add_model("public", provider.url)
    job = await (await sluice.chat(model="public", headers={"Prefer": "respond-async"})).json()

    await sluice.delete(f"/v1/admin/routers/{created['router_id']}")

    done = await (await sluice.get(f"/v1/jobs/{job['id']}?wait=15")).json()
    assert (done["status"], done["error"]["code"]) == ("failed", "model_not_found")
