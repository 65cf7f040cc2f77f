"""/v1/jobs: state, result, events, attempts, cancel, delete."""

import asyncio
import json
from typing import Any

import pytest

from shared.jobs.tables import JobEventRow, JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.events import Event, parse_events, read_events
from tests.installation import ADMIN_KEY, Installation, open_installation, run_workers, serve
from tests.providers import ScriptedProvider, fails, hangs, says
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}


async def finished(sluice: Installation, job_id: str) -> Any:
    """Return the job once it is over."""
    job = await (await sluice.get(f"/v1/jobs/{job_id}?wait=15")).json()
    assert job["status"] not in ("queued", "in_progress")
    return job


def texts(events: list[Event]) -> str:
    """Return the text of the output frames."""
    chunks = [json.loads(event.data) for event in events if event.event is None and event.data != "[DONE]"]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


async def test_an_accepted_job_is_polled_until_its_result(both: Installation) -> None:
    accepted = await both.chat(simulator={"text": "Done", "delay_ms": 50}, metadata={"run": "1"}, headers=ASYNC)
    job = await accepted.json()
    assert accepted.status == 202
    assert (job["status"], job["band"], job["metadata"]) == ("queued", "background", {"run": "1"})

    done = await finished(both, job["id"])

    result = await both.get(f"/v1/jobs/{job['id']}/result")
    body = await result.json()
    assert done["status"] == "completed"
    assert done["usage"]["completion_tokens"] == 1
    assert body["choices"][0]["message"]["content"] == "Done"
    assert body["id"] == job["aliases"][0]
    assert body["usage"] == done["usage"]


async def test_every_alias_reads_the_job(sluice: Installation) -> None:
    job = await (await sluice.chat(headers=ASYNC)).json()

    for prefix in ("job_", "chatcmpl-", "resp_", "batch_req_"):
        assert (await sluice.job(prefix + job["id"].removeprefix("job_")))["id"] == job["id"]
    assert (await sluice.get("/v1/jobs/job_x")).status == 404


async def test_an_unfinished_job_has_no_result_yet(idle: Installation) -> None:
    job = await (await idle.chat(headers=ASYNC)).json()

    response = await idle.get(f"/v1/jobs/{job['id']}/result")
    completion = await idle.get(f"/v1/chat/completions/{job['aliases'][0]}")

    for answer in (response, completion):
        assert answer.status == 409
        assert (await answer.json())["error"]["code"] == "job_not_finished"
        assert int(answer.headers["retry-after"]) >= 1
        assert int(answer.headers["retry-after-ms"]) >= 1


async def test_an_unchanged_job_is_not_sent_again(both: Installation) -> None:
    job = await (await both.chat(headers=ASYNC)).json()
    await finished(both, job["id"])

    first = await both.get(f"/v1/jobs/{job['id']}")
    again = await both.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "private, max-age=60"
    assert again.status == 304
    assert await again.read() == b""


async def test_a_long_poll_returns_when_the_job_changes(idle: Installation) -> None:
    job = await (await idle.chat(headers=ASYNC)).json()
    first = await idle.get(f"/v1/jobs/{job['id']}")

    polling = asyncio.ensure_future(
        idle.get(f"/v1/jobs/{job['id']}?wait=30", headers={"If-None-Match": first.headers["ETag"]})
    )
    await asyncio.sleep(0.05)
    async with run_workers(idle.state.settings):
        answer = await polling

    assert answer.status == 200
    assert answer.headers["ETag"] != first.headers["ETag"]


async def test_jobs_are_listed_newest_first_and_filtered(both: Installation) -> None:
    ids = []
    for run in ("a", "b", "a"):
        response = await both.chat(metadata={"run": run}, headers=ASYNC)
        ids.append((await response.json())["id"])
    await both.chat(store=False)

    everything = await (await both.get("/v1/jobs?limit=2")).json()
    rest = await (await both.get(f"/v1/jobs?limit=2&after={everything['last_id']}")).json()
    filtered = await (await both.get("/v1/jobs?metadata[run]=a&kind=chat.completion")).json()

    assert [job["id"] for job in everything["data"] + rest["data"]] == ids[::-1]
    assert (everything["has_more"], rest["has_more"]) == (True, False)
    assert [job["id"] for job in filtered["data"]] == [ids[2], ids[0]]


async def test_events_tell_the_whole_life_of_a_job(both: Installation) -> None:
    job = await (await both.chat(headers=ASYNC)).json()

    events = await read_events(await both.get(f"/v1/jobs/{job['id']}/events"))

    assert [event.event for event in events] == ["job.queued", "job.started", "job.completed"]
    assert json.loads(events[-1].data)["job"]["status"] == "completed"
    assert [event.id for event in events] == sorted((event.id for event in events), key=cursor)


def cursor(event_id: str | None) -> list[int]:
    return [int(part) for part in (event_id or "").split("-")]


async def test_a_stream_is_resumed_from_any_event_byte_for_byte(both: Installation) -> None:
    response = await both.chat(stream=True, simulator={"tokens": 12})
    whole = parse_events(await response.text())[:-1]
    path = f"/v1/jobs/{response.headers['x-job-id']}/events"
    everything = parse_events(await (await both.get(path)).text())

    output = [event for event in everything if event.event is None]
    assert [(event.id, event.data) for event in output] == [(event.id, event.data) for event in whole]
    for position, event in enumerate(everything):
        by_header = await both.get(path, headers={"Last-Event-ID": event.id})
        by_query = await both.get(path, params={"starting_after": event.id})
        rest = everything[position + 1 :]
        assert by_query.status == by_header.status == (200 if rest else 204)
        assert parse_events(await by_header.text()) == parse_events(await by_query.text()) == rest


async def test_a_running_stream_is_resumed_from_another_api_process(settings: Any) -> None:
    async with open_installation(settings) as sluice:
        running = asyncio.ensure_future(sluice.chat(stream=True, simulator={"tokens": 30, "chunk_delay_ms": 20}))
        response = await running
        first = await response.content.readuntil(b"\n\n")
        response.close()  # the reader is cut off
        seen = parse_events(first.decode())
        from api.__main__ import open_state  # noqa: PLC0415

        async with open_state(settings) as other, serve(other) as url:
            path = f"{url}/v1/jobs/{response.headers['x-job-id']}/events"
            headers = sluice.headers | {"Last-Event-ID": seen[-1].id or ""}
            rest = parse_events(await (await sluice.client.get(path, headers=headers)).text())

        stored = await (await sluice.get(f"/v1/jobs/{response.headers['x-job-id']}/result")).json()
        assert rest[-1].event == "job.completed"
        assert texts(seen) + texts(rest) == stored["choices"][0]["message"]["content"]


async def test_events_are_given_as_a_list_too(both: Installation) -> None:
    response = await both.chat(stream=True, simulator={"text": "a b"})
    await response.read()
    path = f"/v1/jobs/{response.headers['x-job-id']}/events"

    page = await (await both.get(path, params={"limit": "2"}, headers={"Accept": "application/json"})).json()
    rest = await (
        await both.get(path, params={"starting_after": page["data"][-1]["id"]}, headers={"Accept": "application/json"})
    ).json()

    assert [item["event"] for item in page["data"]] == ["job.queued", "job.started"]
    assert page["has_more"] is True
    assert rest["data"][0]["data"]["choices"][0]["delta"]["content"] == "a"
    assert rest["data"][-1]["event"] == "job.completed"


@pytest.mark.parametrize("form", ['W/"{}"', '"{}"', 'W/"x", "{}"', "*"])
async def test_whatever_tags_name_the_version_an_unchanged_job_is_not_sent(sluice: Installation, form: str) -> None:
    job_id = (await sluice.chat()).headers["x-job-id"]
    version = (await sluice.rows(JobRow))[0].version

    for query in ("", "?wait=1"):
        same = await sluice.get(f"/v1/jobs/{job_id}{query}", headers={"If-None-Match": form.format(version)})
        assert (same.status, same.headers["ETag"], await same.read()) == (304, f'W/"{version}"', b"")
    other = await sluice.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": f'W/"{version + 1}", "x"'})
    assert other.status == 200


async def test_a_result_may_be_kept_by_its_reader_for_a_minute(sluice: Installation) -> None:
    done, failed = await sluice.chat(), await sluice.chat(simulator={"fail": "400"})

    results = [await sluice.get(f"/v1/jobs/{one.headers['x-job-id']}/result") for one in (done, failed)]

    assert [(one.status, one.headers["Cache-Control"]) for one in results] == [
        (200, "private, max-age=60"), (400, "private, max-age=60"),
    ]  # fmt: skip


async def test_a_waiting_job_is_cancelled_at_once_and_charged_nothing(idle: Installation) -> None:
    job = await (await idle.chat(headers=ASYNC)).json()

    cancelled = await (await idle.post(f"/v1/jobs/{job['id']}/cancel")).json()
    again = await (await idle.post(f"/v1/jobs/{job['id']}/cancel")).json()

    assert cancelled["status"] == again["status"] == "cancelled"
    assert cancelled["error"]["code"] == "job_cancelled"
    assert [charge.amount_micros for charge in await idle.rows(ChargeRow)] == [0]
    assert [event.type for event in await idle.rows(JobEventRow)] == ["job.cancelled"]
    assert (await idle.get(f"/v1/jobs/{job['id']}/result")).status == 409
    async with run_workers(idle.state.settings):
        await eventually(lambda: queue_is_empty(idle))
    assert (await idle.job(job["id"]))["status"] == "cancelled"


async def queue_is_empty(sluice: Installation) -> bool:
    return int(await sluice.state.redis.zcard(sluice.state.queue.name)) == 0


async def test_a_running_stream_is_cancelled_upstream_and_charged_for_what_it_produced(
    both: Installation, provider: ScriptedProvider
) -> None:
    provider.default = says(" ".join(["word"] * 400), delay_s=0.02)
    await both.add_model("slow", provider.url, prices=(0, 1_000_000))
    response = await both.chat(model="slow", stream=True)
    for _ in range(5):
        await response.content.readuntil(b"\n\n")

    answer = await both.post(f"/v1/jobs/{response.headers['x-job-id']}/cancel")
    rest = await response.text()

    job = await finished(both, response.headers["x-job-id"])
    assert answer.status == 200
    assert job["status"] == "cancelled"
    assert '"code":"job_cancelled"' in rest
    assert "[DONE]" not in rest
    await eventually(lambda: provider.aborted == 1)
    charge = (await both.rows(ChargeRow))[0]
    assert 5 <= charge.completion_tokens < 400
    assert charge.amount_micros == charge.completion_tokens * 1_000_000
    frames = await read_events(await both.get(f"/v1/jobs/{job['id']}/events"))
    assert [frame.event for frame in frames[-2:]] == ["job.cancel_requested", "job.cancelled"]
    assert texts(frames).startswith("word word")


async def test_cancelling_a_finished_job_changes_nothing(sluice: Installation) -> None:
    response = await sluice.chat()

    answer = await sluice.post(f"/v1/jobs/{response.headers['x-job-id']}/cancel")

    assert answer.status == 200
    assert (await answer.json())["status"] == "completed"


async def test_a_stream_that_nobody_reads_is_cancelled_after_the_grace_period(
    tmp_path: Any, redis_server: Any, provider: ScriptedProvider
) -> None:
    from tests.conftest import make_settings  # noqa: PLC0415

    provider.default = says(" ".join(["word"] * 2000), delay_s=0.02)
    async with open_installation(make_settings(tmp_path, redis_server, stream_grace_s=1.0)) as sluice:
        await sluice.add_model("slow", provider.url)
        kept = await sluice.chat(model="slow", stream=True, store=True)
        left = await sluice.chat(model="slow", stream=True)
        for response in (kept, left):
            await response.content.readuntil(b"\n\n")
            response.close()

        job = await finished(sluice, left.headers["x-job-id"])

        assert job["status"] == "cancelled"
        assert (await sluice.job(kept.headers["x-job-id"]))["status"] == "in_progress"
        await sluice.post(f"/v1/jobs/{kept.headers['x-job-id']}/cancel")
        await finished(sluice, kept.headers["x-job-id"])


async def test_a_deleted_job_leaves_a_tombstone(both: Installation) -> None:
    response = await both.chat()
    job_id = response.headers["x-job-id"]

    deleted = await (await both.delete(f"/v1/jobs/{job_id}")).json()

    assert deleted == {"id": job_id, "object": "job.deleted", "deleted": True}
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/result", f"/v1/jobs/{job_id}/events"):
        answer = await both.get(path)
        assert answer.status == 410
        assert (await answer.json())["tombstone"]["status"] == "completed"
    assert len(await both.rows(ChargeRow)) == 1
    assert (await both.rows(JobRow))[0].request is None


async def test_each_attempt_is_recorded_with_its_provider_and_footprint(
    both: Installation, provider: ScriptedProvider
) -> None:
    provider.script = [fails(503, "Service busy")]
    created = await both.add_model(
        "public", provider.url, prices=(1, 2), model_total_params=70, model_hosting_zone="FRA"
    )

    response = await both.chat(model="public")

    attempts = (await (await both.get(f"/v1/jobs/{response.headers['x-job-id']}/attempts")).json())["data"]
    assert [(a["number"], a["status"], a["http_status"], a["retry_reason"]) for a in attempts] == [
        (1, "failed", 503, "http_5xx"),
        (2, "succeeded", 200, None),
    ]
    assert {a["provider_id"] for a in attempts} == {created["id"]}
    assert (attempts[0]["cost"], attempts[1]["cost"]) == (0, 0.000015)
    assert attempts[1]["footprint"]["zone_effective"] == "FRA"
    assert attempts[1]["footprint"]["operational_kgCO2eq"] > 0
    records = await both.rows(UsageRecordRow)
    assert [record.status for record in records] == ["failed", "succeeded"]
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [15]


async def test_a_job_that_takes_too_long_fails_with_a_timeout(tmp_path: Any, redis_server: Any) -> None:
    from tests.conftest import make_settings  # noqa: PLC0415

    async with open_installation(make_settings(tmp_path, redis_server, job_timeout_s=1)) as sluice:
        response = await sluice.chat(simulator={"delay_ms": 30_000})

        assert response.status == 504
        assert (await response.json())["error"]["code"] == "timeout"


async def test_a_job_that_starts_too_late_expires(tmp_path: Any, redis_server: Any) -> None:
    from tests.conftest import make_settings  # noqa: PLC0415

    settings = make_settings(tmp_path, redis_server, start_timeout_s=1)
    async with open_installation(settings, workers=False) as sluice:
        job = await (await sluice.chat(headers=ASYNC)).json()
        await asyncio.sleep(1.1)
        async with run_workers(settings):
            done = await finished(sluice, job["id"])

        assert done["status"] == "expired"
        result = await sluice.get(f"/v1/jobs/{job['id']}/result")
        assert (result.status, (await result.json())["error"]["code"]) == (504, "job_expired")
        assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]


@pytest.mark.parametrize("band", ["interactive", "background"])
async def test_a_provider_that_hangs_is_left_for_another(
    both: Installation, provider: ScriptedProvider, band: str
) -> None:
    provider.default = hangs()
    slow = await both.add_model("public", provider.url, timeout=1)
    await both.add_provider(slow["router_id"], model_name="good")
    headers = ASYNC if band == "background" else {}

    answers = [await both.chat(model="public", headers=headers, simulator={"text": "ok"}) for _ in range(4)]

    for answer in answers:
        job = await finished(both, answer.headers["x-job-id"])
        assert job["status"] == "completed"
    assert len(await both.rows(ChargeRow)) == 4


async def test_a_cursor_that_is_no_text_is_refused(sluice: Installation) -> None:
    job = (await (await sluice.chat()).json())["id"]
    reader, writer = await asyncio.open_connection(*sluice.url.removeprefix("http://").split(":"))
    head = (
        f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    )

    writer.write(head.encode() + b"Last-Event-ID: \x801-0\r\n\r\n")
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"invalid_cursor"' in answer
