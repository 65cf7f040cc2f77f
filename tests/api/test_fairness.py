"""What one caller asks for does not harm the others."""

import asyncio
from typing import Any

import pytest

from api.bodies import is_deep, is_huge  # the check of every body
from tests.conftest import make_settings
from tests.events import read_events
from tests.installation import Installation, open_installation
from tests.providers import ScriptedProvider, chunk, fails, says, streams

ASYNC = {"Prefer": "respond-async"}


async def test_the_largest_token_limit_leaves_nobody_behind(tmp_path: Any, redis_server: Any) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, worker_slots=2)) as sluice:
        first = [await sluice.chat(simulator={"delay_ms": 300}, headers=ASYNC) for _ in range(2)]
        greedy = await sluice.chat(max_tokens=2**31 - 1, n=128, headers=ASYNC)
        others = [await sluice.chat(f"{n}", headers=ASYNC) for n in range(5)]

        for response in (*first, greedy, *others):
            job = await (await sluice.get(f"/v1/jobs/{response.headers['x-job-id']}?wait=15")).json()
            assert job["status"] == "completed"


@pytest.mark.parametrize("limit", [2**31, 10**400])
async def test_a_token_limit_that_nobody_means_is_refused(sluice: Installation, limit: int) -> None:
    assert (await sluice.chat(max_tokens=limit)).status == 422


async def test_a_long_simulated_stream_lets_others_through(sluice: Installation) -> None:
    long = asyncio.ensure_future(sluice.chat(stream=True, simulator={"tokens": 20_000}))

    answers = [await sluice.chat(f"{n}") for n in range(5)]

    assert [answer.status for answer in answers] == [200] * 5
    await (await long).read()
    assert (await sluice.chat(n=128, simulator={"tokens": 1000})).status == 400


async def test_a_retry_nobody_saw_does_not_end_a_stream(
    settings_with_short_silence: Installation, provider: ScriptedProvider
) -> None:
    sluice = settings_with_short_silence

    async def late_failure(request: Any, body: Any) -> Any:
        await asyncio.sleep(0.5)
        return await fails(500)(request, body)

    provider.script = [late_failure, says("fine")]
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public", stream=True)

    body = await response.text()
    assert body.startswith(": keep-alive")
    assert '"content":"fine"' in body.replace(" ", "")
    assert body.endswith("data: [DONE]\n\n")


async def test_the_end_of_a_job_without_provider_is_told(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = fails(500)
    created = await sluice.add_model("public", provider.url)
    job = await (await sluice.chat(model="public", headers=ASYNC)).json()
    following = asyncio.ensure_future(sluice.get(job["urls"]["events"]))
    await asyncio.sleep(0.3)

    await sluice.delete(f"/v1/admin/providers/{created['id']}")

    events = [event.event for event in await read_events(await following)]
    assert events[0] == "job.queued"
    assert "job.retry_scheduled" in events
    assert events[-1] == "job.failed"
    again = await read_events(await sluice.get(job["urls"]["events"]))
    assert [event.event for event in again] == events


async def test_the_errors_of_a_provider_stay_inside(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = streams(chunk({"content": "x"}), {"error": {"message": "secret host 10.0.0.1"}})
    await sluice.add_model("public", provider.url)

    body = await (await sluice.chat(model="public", stream=True)).text()

    assert "interrupted" in body
    assert "10.0.0.1" not in body


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"[" * 300 + b"]" * 300, True),
        (b'{"a":' * 300 + b"1" + b"}" * 300, True),
        (b"[[]," * 299 + b"[]" + b"]" * 299, True),
        (b"[" + b"[]," * 5000 + b"[]]", False),
        (b'["' + b"[" * 5000 + b'"]', False),
        (b'["\\"' + b"[" * 5000 + b'\\\\"]', False),
        (b'["\\\\",' + b"[" * 300 + b"]" * 300 + b"]", True),
        (b"[" * 200 + b"]" * 200, False),
    ],
)
def test_depth_is_counted_outside_of_texts(document: bytes, expected: bool) -> None:
    assert is_deep(document) is expected


def test_a_document_of_millions_of_lists_is_refused() -> None:
    assert is_huge(b"[" + b"[]," * 1_000_001 + b"[]]")
    assert not is_huge(b'["' + b"x" * 3_000_000 + b'"]')
