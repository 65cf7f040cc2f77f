"""`Prefer` on an inference route: who waits, how long, and what he gets."""

import pytest

from shared.jobs.tables import JobRow
from tests.events import read_events
from tests.installation import Installation
from tests.waiting import eventually


async def test_without_a_preference_the_caller_waits(both: Installation) -> None:
    response = await both.chat(simulator={"text": "Hi", "delay_ms": 100})

    assert response.status == 200
    assert (await response.json())["choices"][0]["message"]["content"] == "Hi"
    assert "Preference-Applied" not in response.headers
    assert response.headers["Vary"] == "Prefer"


async def test_respond_async_answers_with_a_job_at_once(idle: Installation) -> None:
    response = await idle.chat(headers={"Prefer": "respond-async"}, metadata={"run": "a"})

    job = await response.json()
    assert response.status == 202
    assert (job["object"], job["status"], job["kind"]) == ("job", "queued", "chat.completion")
    assert (job["band"], job["metadata"], job["attempt"]) == ("background", {"run": "a"}, 0)
    assert job["aliases"] == ["chatcmpl-" + job["id"].removeprefix("job_")]


async def test_an_accepted_job_is_in_the_database_before_the_answer(idle: Installation) -> None:
    response = await idle.chat(headers={"Prefer": "respond-async"})

    rows = await idle.rows(JobRow)
    assert [f"job_{row.id}" for row in rows] == [response.headers["x-job-id"]]


async def test_the_headers_of_a_202_tell_where_and_when_to_look(idle: Installation) -> None:
    response = await idle.chat(headers={"Prefer": "respond-async"})

    job = await response.json()
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["x-job-id"] == job["id"]
    assert 1 <= int(response.headers["retry-after"]) <= 30
    assert 200 <= int(response.headers["openai-poll-after-ms"]) <= 30_000
    assert response.headers["Preference-Applied"] == "respond-async"
    assert response.headers["Vary"] == "Prefer"
    assert response.headers["x-request-id"].startswith("req_")


async def test_the_location_of_a_202_leads_to_the_result(both: Installation) -> None:
    response = await both.chat(headers={"Prefer": "respond-async"}, simulator={"text": "Done", "delay_ms": 50})

    job = await both.get(response.headers["Location"] + "?wait=20")
    result = await both.get((await job.json())["urls"]["result"])
    assert (await job.json())["status"] == "completed"
    assert (await result.json())["choices"][0]["message"]["content"] == "Done"


async def test_respond_async_with_wait_gives_the_answer_if_it_comes_in_time(both: Installation) -> None:
    response = await both.chat(headers={"Prefer": "respond-async, wait=20"}, simulator={"text": "Hi"})

    assert response.status == 200
    assert (await response.json())["object"] == "chat.completion"
    assert response.headers["Preference-Applied"] == "wait=20"


async def test_respond_async_with_wait_gives_a_job_if_the_time_is_over(idle: Installation) -> None:
    response = await idle.chat(headers={"Prefer": "respond-async, wait=1"})

    job = await response.json()
    assert response.status == 202
    assert (job["object"], job["status"]) == ("job", "queued")
    assert response.headers["Preference-Applied"] == "respond-async"
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert "retry-after" in response.headers
    assert "openai-poll-after-ms" in response.headers


async def test_the_job_of_a_late_202_tells_its_current_state(sluice: Installation) -> None:
    response = await sluice.chat(headers={"Prefer": "respond-async, wait=1"}, simulator={"delay_ms": 2_500})

    job = await response.json()
    assert response.status == 202
    assert (job["status"], job["attempt"]) == ("in_progress", 1)


async def test_wait_gives_the_answer_if_it_comes_in_time(both: Installation) -> None:
    response = await both.chat(headers={"Prefer": "wait=20"}, simulator={"text": "Hi", "delay_ms": 50})

    assert response.status == 200
    assert response.headers["Preference-Applied"] == "wait=20"


async def test_wait_that_is_exceeded_is_a_504_that_names_the_job(idle: Installation) -> None:
    response = await idle.chat(headers={"Prefer": "wait=1"})

    body = await response.json()
    assert response.status == 504
    assert body["error"]["code"] == "wait_exceeded"
    assert body["detail"] == body["error"]["message"]
    assert response.headers["Location"] == f"/v1/jobs/{response.headers['x-job-id']}"
    assert response.headers["x-should-retry"] == "false"


async def test_a_job_goes_on_after_its_caller_s_wait_was_exceeded(both: Installation) -> None:
    response = await both.chat(headers={"Prefer": "wait=1"}, simulator={"text": "late", "delay_ms": 1_500})

    assert response.status == 504
    job = await both.get(response.headers["Location"] + "?wait=20")
    assert (await job.json())["status"] == "completed"


async def test_strict_handling_is_accepted(sluice: Installation) -> None:
    response = await sluice.chat(headers={"Prefer": "handling=strict"}, top_p=0.5)

    assert (response.status, response.headers["Preference-Applied"]) == (200, "handling=strict")


async def test_a_preference_nobody_knows_is_ignored(sluice: Installation) -> None:
    values = [
        "", ",", ";", "=", "wait", "wait=", "wait=x", "wait=-1", "wait=1.5", "wait=1e9", "wait=nan", "wait==1",
        "respond-asynchronously", "respond_async", "return=minimal", "handling=lenient", '"', "a" * 4000,
        "respond-async=no",
    ]  # fmt: skip

    for value in values:
        response = await sluice.chat(headers={"Prefer": value})
        assert response.status == 200, value
        assert "Preference-Applied" not in response.headers, value


async def test_digits_of_other_scripts_are_not_a_wait(sluice: Installation) -> None:
    response = await sluice.chat(headers={"Prefer": "wait=\u0663"})

    assert response.status == 200
    assert "Preference-Applied" not in response.headers


@pytest.mark.parametrize("seconds", ["100000", "99999999999", "9" * 4000])
async def test_a_wait_of_more_than_ten_minutes_is_cut(sluice: Installation, seconds: str) -> None:
    response = await sluice.chat(headers={"Prefer": f"wait={seconds}"})

    assert response.status == 200
    assert response.headers["Preference-Applied"] == "wait=600"


@pytest.mark.parametrize(
    "value", ["Respond-Async", " respond-async ", "respond-async; foo=bar", "return=minimal, respond-async"]
)
async def test_respond_async_is_understood_in_any_spelling_of_the_rfc(idle: Installation, value: str) -> None:
    response = await idle.chat(headers={"Prefer": value})

    assert response.status == 202


@pytest.mark.parametrize("value", ["WAIT=20", 'wait="20"', "wait = 20", "foo, wait=20, bar=1"])
async def test_wait_is_understood_in_any_spelling_of_the_rfc(sluice: Installation, value: str) -> None:
    response = await sluice.chat(headers={"Prefer": value})

    assert response.headers["Preference-Applied"] == "wait=20"


async def test_preferences_may_stand_in_several_headers(sluice: Installation) -> None:
    headers = [*sluice.headers.items(), ("Prefer", "respond-async"), ("Prefer", "wait=20")]
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}]}

    response = await sluice.client.post("/v1/chat/completions", json=body, headers=headers)

    assert response.status == 200
    assert response.headers["Preference-Applied"] == "wait=20"


@pytest.mark.parametrize("value", ["respond-async", "respond-async, wait=20"])
async def test_the_chunks_of_an_asynchronous_stream_are_read_at_its_events(sluice: Installation, value: str) -> None:
    response = await sluice.chat(stream=True, headers={"Prefer": value}, simulator={"text": "one two"})

    job = await response.json()
    events = await read_events(await sluice.get(job["urls"]["events"]))
    chunks = [event for event in events if event.event is None]
    assert response.status == 202
    assert response.headers["Preference-Applied"] == "respond-async"
    assert len(chunks) >= 2
    assert events[-1].event == "job.completed"


async def test_a_refusal_before_a_job_exists_ignores_the_preference(sluice: Installation) -> None:
    response = await sluice.chat(model="nobody-serves-this", headers={"Prefer": "respond-async"})

    assert response.status == 404
    assert "x-job-id" not in response.headers
    assert await sluice.rows(JobRow) == []


async def test_a_failed_job_names_itself_to_the_caller_who_waited(both: Installation) -> None:
    response = await both.chat(simulator={"fail": "400"})

    job = await both.job(response.headers["x-job-id"])
    assert response.status == 400
    assert response.headers["Vary"] == "Prefer"
    assert job["status"] == "failed"
    assert job["error"]["status"] == 400


async def test_a_failed_asynchronous_job_replays_its_error(both: Installation) -> None:
    accepted = await both.chat(headers={"Prefer": "respond-async"}, simulator={"fail": "400"})

    job_id = accepted.headers["x-job-id"]
    await eventually(lambda: _is_failed(both, job_id))
    result = await both.get(f"/v1/jobs/{job_id}/result")
    assert accepted.status == 202
    assert result.status == 400
    assert (await result.json())["error"]["code"] == "refused"
    assert result.headers["x-should-retry"] == "false"


async def _is_failed(installation: Installation, job_id: str) -> bool:
    return (await installation.job(job_id))["status"] == "failed"
