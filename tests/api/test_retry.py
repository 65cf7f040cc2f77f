"""POST /v1/jobs/{job_id}/retry: what did not succeed, once more, as a new job."""

import asyncio
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.installation import Installation
from tests.people import add_user, key_of
from tests.providers import ScriptedProvider, fails
from tests.recordings import transcribe
from tests.waiting import eventually

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}]}


async def retry(installation: Installation, job_id: str, **options: Any) -> Any:
    return await installation.post(f"/v1/jobs/{job_id}/retry", **options)


async def failed_job(installation: Installation, provider: ScriptedProvider, **members: Any) -> Any:
    await installation.add_model("scripted", provider.url)
    provider.script = [fails(400, "no")]
    response = await installation.post("/v1/jobs", {"endpoint": "/v1/chat/completions", "body": CHAT} | members)
    job_id = (await response.json())["id"]
    await eventually(lambda: _is(installation, job_id, "failed"))
    return await installation.job(job_id)


async def _is(installation: Installation, job_id: str, status: str) -> bool:
    return bool((await installation.job(job_id))["status"] == status)


async def test_a_failed_job_is_sent_again_with_its_settings(both: Installation, provider: ScriptedProvider) -> None:
    old = await failed_job(both, provider, metadata={"run": "1"}, timeout=77, max_attempts=5, result_ttl=1000)

    response = await retry(both, old["id"])
    new = await response.json()
    await eventually(lambda: _is(both, new["id"], "completed"))

    assert (response.status, new["retry_of"], new["id"] != old["id"]) == (202, old["id"], True)
    assert [new[name] for name in ("metadata", "timeout", "max_attempts")] == [{"run": "1"}, 77, 5]
    now = await both.job(old["id"])
    assert now == old | {"retried_by": new["id"]}
    assert provider.requests[0] == provider.requests[1]


async def test_a_second_retry_is_the_first_one(both: Installation, provider: ScriptedProvider) -> None:
    old = await failed_job(both, provider)

    responses = await asyncio.gather(*(retry(both, old["id"]) for _ in range(5)))

    ids = {(await response.json())["id"] for response in responses}
    assert sorted(response.status for response in responses) == [200, 200, 200, 200, 202]
    assert len(ids) == 1
    assert len(await both.rows(JobRow)) == 2


async def test_what_runs_or_has_succeeded_is_not_retried(sluice: Installation) -> None:
    done = (await sluice.chat()).headers["x-job-id"]
    running = (await (await sluice.chat(simulator={"delay_ms": 5000}, headers={"Prefer": "respond-async"})).json())[
        "id"
    ]

    for job_id in (done, running):
        response = await retry(sluice, job_id)
        answer = await response.json()
        assert (response.status, answer["error"]["code"]) == (409, "job_not_retryable")
        assert response.headers["x-should-retry"] == "false"


async def test_a_cancelled_job_is_retried(both: Installation) -> None:
    job_id = (await (await both.chat(simulator={"delay_ms": 9000}, headers={"Prefer": "respond-async"})).json())["id"]
    await both.post(f"/v1/jobs/{job_id}/cancel")
    await eventually(lambda: _is(both, job_id, "cancelled"))

    response = await retry(both, job_id)

    assert response.status == 202


@pytest.mark.parametrize("attempts", [1])
async def test_a_recording_is_sent_again(both: Installation, provider: ScriptedProvider, attempts: int) -> None:
    await both.add_model("ears", provider.url, router_type="automatic-speech-recognition")
    provider.script = [fails(400, "no")] * attempts
    response = await transcribe(both, model="ears")
    job_id = response.headers["x-job-id"]

    again = await (await retry(both, job_id)).json()
    await eventually(lambda: len(provider.bodies) == 2)

    assert response.status == 400
    assert again["retry_of"] == job_id
    assert provider.bodies[0] == provider.bodies[1]


async def test_a_removed_request_cannot_be_sent_again(sluice: Installation, provider: ScriptedProvider) -> None:
    old = await failed_job(sluice, provider)
    await sluice.delete(f"/v1/jobs/{old['id']}")

    assert (await retry(sluice, old["id"])).status == 410


async def test_a_retry_is_subject_to_rights_and_limits(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("scripted", provider.url, prices=(0, 1_000_000))
    user = await add_user(both, budget=100)
    me = await key_of(both, user["id"])
    provider.script = [fails(400, "no")]
    failed = await both.post("/v1/chat/completions", CHAT | {"max_tokens": 5}, headers=me)
    await both.patch(f"/v1/admin/users/{user['id']}", {"budget": 0})

    response = await retry(both, failed.headers["x-job-id"], headers=me)

    assert (response.status, (await response.json())["error"]["code"]) == (400, "insufficient_budget")
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [0]
    assert (await both.job(failed.headers["x-job-id"]))["retried_by"] is None
