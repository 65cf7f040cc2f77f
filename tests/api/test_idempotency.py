"""`Idempotency-Key`: one job, one charge, one answer, however often a request is sent."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from openai import AsyncOpenAI
from sqlmodel import update

from api.__main__ import open_state
from shared.idempotency.tables import IdempotencyKeyRow
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.api.test_retention import sweep
from tests.conftest import make_settings
from tests.installation import ADMIN_KEY, Installation, open_installation, serve
from tests.people import key_of, refused
from tests.providers import ScriptedProvider, fails
from tests.servers import RedisServer
from tests.waiting import eventually

KEY = {"Idempotency-Key": "order-17"}
SLOW = {"delay_ms": 1500}


async def jobs(installation: Installation) -> int:
    return len(await installation.rows(JobRow))


async def test_the_answer_is_given_again(both: Installation) -> None:
    first, second = [await both.chat(headers=KEY) for _ in range(2)]

    assert await second.read() == await first.read()
    assert (second.status, second.headers["Idempotency-Replayed"]) == (200, "true")
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["x-job-id"] == first.headers["x-job-id"]
    assert await jobs(both) == len(await both.rows(ChargeRow)) == 1


async def test_the_order_of_members_and_quotes_around_the_key_do_not_matter(sluice: Installation) -> None:
    message = {"role": "user", "content": "Hello"}
    first = await sluice.post("/v1/chat/completions", {"model": "simulator", "messages": [message]}, headers=KEY)
    quoted = {"Idempotency-Key": '"order-17"'}
    second = await sluice.post("/v1/chat/completions", {"messages": [message], "model": "simulator"}, headers=quoted)

    assert await second.read() == await first.read()
    assert await jobs(sluice) == 1


async def test_another_body_is_refused(both: Installation) -> None:
    await both.chat("One", headers=KEY)

    response = await both.chat("Two", headers=KEY)

    assert (await refused(response))[0] == 422
    assert (await response.json())["error"]["code"] == "idempotency_key_reused"
    assert response.headers["x-should-retry"] == "false"
    assert await jobs(both) == 1


async def test_keys_belong_to_a_user_and_a_route(sluice: Installation) -> None:
    other = await key_of(sluice, 2)
    text = {"model": "simulator", "prompt": "Hello"}

    answers = [
        await sluice.chat(headers=KEY),
        await sluice.chat(headers=KEY | other),
        await sluice.post("/v1/completions", text, headers=KEY),
    ]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert await jobs(sluice) == 3


@pytest.mark.parametrize("key", ["", "a" * 256, "with space", "ümlaut", '""'])
async def test_a_key_of_other_characters_is_refused(sluice: Installation, key: str) -> None:
    response = await sluice.chat(headers={"Idempotency-Key": key})

    assert response.status == 400
    assert (await response.json())["error"]["code"] == "invalid_idempotency_key"
    assert await jobs(sluice) == 0


async def test_a_hundred_at_once_make_one_job(both: Installation) -> None:
    answers = await asyncio.gather(*(both.chat(headers=KEY, simulator=SLOW) for _ in range(100)))

    statuses = [answer.status for answer in answers]
    assert (statuses.count(200), statuses.count(409)) == (1, 99)
    refusal = next(answer for answer in answers if answer.status == 409)
    assert (await refusal.json())["error"]["code"] == "idempotency_in_flight"
    assert 200 <= int(refusal.headers["retry-after-ms"]) <= 5000
    assert "Idempotency-Replayed" not in refusal.headers
    assert refusal.headers["Location"] == f"/v1/jobs/{refusal.headers['x-job-id']}"
    assert await jobs(both) == len(await both.rows(ChargeRow)) == 1


async def test_who_wants_to_wait_joins_the_running_job(sluice: Installation) -> None:
    first = asyncio.ensure_future(sluice.chat(headers=KEY, simulator=SLOW))
    await eventually(lambda: _has_key(sluice))

    joined = await sluice.chat(headers=KEY | {"Prefer": "wait=20"}, simulator=SLOW)
    answer = await first

    assert (joined.status, joined.headers["Idempotency-Replayed"]) == (200, "true")
    assert await joined.read() == await answer.read()


async def _has_key(installation: Installation) -> bool:
    return len(await installation.rows(IdempotencyKeyRow)) == 1


async def test_who_waits_too_short_is_told_so(sluice: Installation) -> None:
    first = asyncio.ensure_future(sluice.chat(headers=KEY, simulator=SLOW))
    await eventually(lambda: _has_key(sluice))

    impatient = await sluice.chat(headers=KEY | {"Prefer": "wait=0"}, simulator=SLOW)

    assert (impatient.status, (await impatient.json())["error"]["code"]) == (504, "wait_exceeded")
    assert (await first).status == 200


async def test_a_202_is_a_202_again_with_the_job_as_it_is(both: Installation) -> None:
    later = KEY | {"Prefer": "respond-async"}
    first = await both.chat(headers=later)
    job_id = first.headers["x-job-id"]
    await eventually(lambda: _is_done(both, job_id))

    second = await both.chat(headers=later)

    assert (first.status, second.status) == (202, 202)
    assert ((await second.json())["id"], (await second.json())["status"]) == (job_id, "completed")


async def _is_done(installation: Installation, job_id: str) -> bool:
    return bool((await installation.job(job_id))["status"] == "completed")


async def test_a_stream_is_replayed_from_the_log(both: Installation) -> None:
    text = await (await both.chat(stream=True, headers=KEY)).read()
    second = await both.chat(stream=True, headers=KEY)

    assert b"[DONE]" in text
    assert await second.read() == text
    assert await jobs(both) == 1


async def test_a_stored_error_is_given_again(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.script = [fails(400, "Too strange.")]
    await sluice.add_model("public", provider.url)

    first, second = [await sluice.chat(model="public", headers=KEY) for _ in range(2)]

    assert (first.status, second.status) == (400, 400)
    assert await second.json() == await first.json()
    assert len(provider.requests) == 1


async def test_what_was_refused_before_a_job_binds_nothing(sluice: Installation) -> None:
    refusals = [await sluice.chat(model="nobody", headers=KEY), await sluice.chat(temperature=9, headers=KEY)]
    accepted = await sluice.chat(headers=KEY)

    assert [answer.status for answer in refusals] == [404, 422]
    assert accepted.status == 200
    assert "Idempotency-Replayed" not in accepted.headers


async def test_another_process_and_a_restart_know_the_key(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = make_settings(tmp_path, redis_server)
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hello"}]}
    async with open_installation(settings) as installation:
        first = await installation.chat(headers=KEY)
        async with open_state(settings) as state, serve(state) as url:
            other = await installation.client.post(
                url + "/v1/chat/completions", json=body, headers=installation.headers | KEY
            )
            assert await other.read() == await first.read()
        answer = await first.read()
    async with open_installation(settings) as installation:
        again = await installation.chat(headers=KEY)

        assert await again.read() == answer
        assert await jobs(installation) == 1


async def test_a_removed_result_is_gone_and_an_old_key_is_free(both: Installation) -> None:
    first = await both.chat(headers=KEY)
    await both.delete(f"/v1/jobs/{first.headers['x-job-id']}")
    assert (await both.chat(headers=KEY)).status == 410

    await expire(both)
    answer = await both.chat(headers=KEY)

    assert answer.status == 200
    assert await jobs(both) == 2


async def expire(installation: Installation) -> None:
    """Let the time of all keys be over."""
    async with installation.state.database.transaction() as session:
        await session.exec(update(IdempotencyKeyRow).values(expires_ms=1))


async def test_old_keys_are_swept(both: Installation) -> None:
    await both.chat(headers=KEY)
    await expire(both)
    await both.chat("Another", headers={"Idempotency-Key": "order-18"})

    await sweep(both)

    assert [row.expires_ms > 1 for row in await both.rows(IdempotencyKeyRow)] == [True]


async def test_files_are_part_of_the_request(sluice: Installation) -> None:
    answers: list[Any] = []
    for data in (b"RIFF\x00\x00\x00\x00WAVEone", b"RIFF\x00\x00\x00\x00WAVEone", b"RIFF\x00\x00\x00\x00WAVEtwo"):
        form = FormData({"model": "simulator-transcription"})
        form.add_field("file", data, filename="a.wav", content_type="audio/wav")
        answers.append(await sluice.client.post("/v1/audio/transcriptions", data=form, headers=sluice.headers | KEY))

    assert [answer.status for answer in answers] == [200, 200, 422]
    assert await answers[1].read() == await answers[0].read()
    assert await jobs(sluice) == 1


@pytest.mark.parametrize("delay_ms", [800, 4000])
async def test_a_stock_client_whose_key_is_in_flight_ends_with_the_result(sluice: Installation, delay_ms: int) -> None:
    async with AsyncOpenAI(base_url=f"{sluice.url}/v1", api_key=ADMIN_KEY) as client:
        first, second = await asyncio.gather(*(
            client.chat.completions.create(
                model="simulator", messages=[{"role": "user", "content": "Hello"}],
                extra_body={"simulator": {"delay_ms": delay_ms}}, extra_headers={"Idempotency-Key": "in-flight"},
            )
            for _ in range(2)
        ))  # fmt: skip

    (row,) = await sluice.rows(JobRow)
    assert first.id == second.id == f"chatcmpl-{row.id}"


async def test_a_202_after_a_wait_stays_a_202_once_the_job_is_over(both: Installation) -> None:
    headers = KEY | {"Prefer": "respond-async, wait=1"}
    first = await both.chat(headers=headers, simulator={"delay_ms": 2000})
    job_id = first.headers["x-job-id"]
    await both.get(f"/v1/jobs/{job_id}?wait=30")

    again = await both.chat(headers=headers, simulator={"delay_ms": 2000})

    assert (first.status, again.status) == (202, 202)
    assert (again.headers["x-job-id"], again.headers["Idempotency-Replayed"]) == (job_id, "true")
    assert again.headers["Preference-Applied"] == "respond-async"
    assert (await again.json())["status"] == "completed"


async def test_an_answer_within_the_wait_is_given_again_as_it_was(both: Installation) -> None:
    headers = KEY | {"Prefer": "respond-async, wait=20"}

    first, again = await both.chat(headers=headers), await both.chat(headers=headers)

    assert (first.status, again.status) == (200, 200)
    assert await first.read() == await again.read()
