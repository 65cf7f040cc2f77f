"""Repetitions of stock clients: one job, however often the client asks."""

import asyncio

import pytest
from aiohttp import ClientTimeout
from openai import AsyncOpenAI

from shared.jobs.tables import JobRow
from tests.installation import ADMIN_KEY, Installation
from tests.people import add_user, key_of
from tests.waiting import eventually

AGAIN = {"x-stainless-retry-count": "1"}
SLOW = {"delay_ms": 1000}


async def give_up_early(installation: Installation, headers: dict[str, str] | None = None) -> None:
    """Send a chat and close the connection before its answer comes."""
    with pytest.raises(asyncio.TimeoutError):
        await installation.client.post(
            "/v1/chat/completions",
            json={"model": "simulator", "messages": [{"role": "user", "content": "Hello"}], "simulator": SLOW},
            headers=installation.headers | (headers or {}),
            timeout=ClientTimeout(total=0.3),
        )


async def finished(installation: Installation) -> bool:
    return all(row.finished_ms for row in await installation.rows(JobRow))


async def test_a_stock_client_that_times_out_makes_one_job(both: Installation) -> None:
    async with AsyncOpenAI(base_url=f"{both.url}/v1", api_key=ADMIN_KEY, timeout=0.7, max_retries=5) as client:
        answer = await client.chat.completions.create(
            model="simulator",
            messages=[{"role": "user", "content": "Hello"}],
            extra_body={"simulator": {"delay_ms": 1500}},
        )

    (row,) = await both.rows(JobRow)
    assert answer.id == f"chatcmpl-{row.id}"


async def test_a_repetition_joins_the_job_that_runs(both: Installation) -> None:
    await give_up_early(both)

    again = await both.chat(simulator=SLOW, headers=AGAIN)

    (row,) = await both.rows(JobRow)
    assert (again.status, again.headers["x-job-id"]) == (200, f"job_{row.id}")
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_a_repetition_gets_an_answer_that_nobody_heard(both: Installation) -> None:
    await give_up_early(both)
    await eventually(lambda: finished(both))
    await asyncio.sleep(0.1)

    again = await both.chat(simulator=SLOW, headers=AGAIN)
    later = await both.chat(simulator=SLOW, headers=AGAIN)

    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert "Idempotency-Replayed" not in later.headers  # that answer was heard
    assert len(await both.rows(JobRow)) == 2


async def test_what_was_heard_is_not_repeated(sluice: Installation) -> None:
    first = await sluice.chat()
    again = await sluice.chat(headers=AGAIN)

    assert first.headers["x-job-id"] != again.headers["x-job-id"]


async def test_first_tries_are_jobs_of_their_own(sluice: Installation) -> None:
    await give_up_early(sluice)

    other = await sluice.chat(simulator=SLOW)

    assert "Idempotency-Replayed" not in other.headers
    assert len(await sluice.rows(JobRow)) == 2


async def test_others_and_other_requests_do_not_attach(sluice: Installation) -> None:
    other = await key_of(sluice, (await add_user(sluice))["id"])
    await give_up_early(sluice)

    foreign = await sluice.chat(simulator=SLOW, headers=AGAIN | other)
    different = await sluice.chat("Goodbye", simulator=SLOW, headers=AGAIN)

    assert "Idempotency-Replayed" not in foreign.headers
    assert "Idempotency-Replayed" not in different.headers
    assert len(await sluice.rows(JobRow)) == 3


async def test_an_answer_that_a_repetition_heard_is_not_given_again(both: Installation) -> None:
    await give_up_early(both)
    await both.chat(simulator=SLOW, headers=AGAIN)
    await asyncio.sleep(0.1)  # the first caller's own answer finds nobody
    newer = await both.chat(simulator=SLOW)

    again = await both.chat(simulator=SLOW, headers=AGAIN)

    assert "Idempotency-Replayed" not in newer.headers
    assert "Idempotency-Replayed" not in again.headers
    assert len(await both.rows(JobRow)) == 3


async def test_a_repetition_that_leaves_too_is_followed_by_another(both: Installation) -> None:
    await give_up_early(both)
    await give_up_early(both, AGAIN)
    await eventually(lambda: finished(both))
    await asyncio.sleep(0.1)

    again = await both.chat(simulator=SLOW, headers=AGAIN)

    (row,) = await both.rows(JobRow)
    assert (again.status, again.headers["x-job-id"]) == (200, f"job_{row.id}")
