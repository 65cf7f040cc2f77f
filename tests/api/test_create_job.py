"""POST /v1/jobs: any inference request as a job, with options."""

import time
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from tests.installation import Installation
from tests.people import add_user, key_of, refused
from tests.waiting import eventually

JOBS = "/v1/jobs"
CHAT = {"model": "simulator", "messages": [{"role": "user", "content": "Hello"}]}


async def send(installation: Installation, body: Any = CHAT, **members: Any) -> Any:
    headers = members.pop("headers", {})
    request = {"endpoint": "/v1/chat/completions", "body": body} | members
    return await installation.post(JOBS, request, headers=headers)


async def _is_done(installation: Installation, job_id: str) -> bool:
    return bool((await installation.job(job_id))["status"] == "completed")


@pytest.mark.parametrize(
    ("endpoint", "body", "member"),
    [
        ("/v1/chat/completions", CHAT, "choices"),
        ("/v1/completions", {"model": "simulator", "prompt": "Hello"}, "choices"),
        ("/v1/embeddings", {"model": "simulator-embedding", "input": "Hello"}, "data"),
        ("/v1/rerank", {"model": "simulator-rerank", "query": "a", "documents": ["a", "b"]}, "results"),
    ],
)
async def test_any_inference_request_becomes_a_job(
    both: Installation, endpoint: str, body: dict[str, Any], member: str
) -> None:
    response = await both.post(JOBS, {"endpoint": endpoint, "body": body})

    job = await response.json()
    assert (response.status, job["endpoint"], job["band"]) == (202, endpoint, "background")
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["retry-after"]
    await eventually(lambda: _is_done(both, job["id"]))
    result = await (await both.get(f"{JOBS}/{job['id']}/result")).json()
    assert member in result


async def test_options_are_kept(both: Installation) -> None:
    user = await add_user(both, priority=3)
    me = await key_of(both, user["id"])
    options = {
        "metadata": {"run": "nightly"}, "priority": 2, "start_timeout": 100, "timeout": 50, "max_attempts": 7,
        "result_ttl": 1000, "on_worker_lost": "fail",
    }  # fmt: skip

    job = await (await send(both, headers=me, **options)).json()

    row = (await both.rows(JobRow))[0]
    assert (job["metadata"], job["priority"], job["timeout"], job["max_attempts"]) == ({"run": "nightly"}, 2, 50, 7)
    assert job["expires_at"] - job["created_at"] == 100
    assert (row.result_ttl_s, row.on_worker_lost) == (1000, "fail")


async def test_a_job_does_not_start_before_its_time(both: Installation) -> None:
    later = int(time.time()) + 3
    job = await (await send(both, not_before=later)).json()

    assert (job["not_before"], job["status"]) == (later, "queued")
    await eventually(lambda: _is_done(both, job["id"]))
    assert (await both.job(job["id"]))["started_at"] >= later


async def test_a_stream_is_read_from_its_events(sluice: Installation) -> None:
    job = await (await send(sluice, CHAT | {"stream": True})).json()

    events = await (await sluice.get(f"{JOBS}/{job['id']}/events")).read()

    assert b"chat.completion.chunk" in events
    assert b"job.completed" in events


@pytest.mark.parametrize(
    ("members", "status", "code"),
    [
        ({"endpoint": "/v1/models"}, 422, "invalid_request"),
        ({"endpoint": "/v1/jobs"}, 422, "invalid_request"),
        ({"endpoint": "/v1/audio/transcriptions"}, 422, "invalid_request"),
        ({"body": {"model": "simulator"}}, 422, "invalid_request"),
        ({"body": CHAT | {"temperature": 9}}, 422, "invalid_request"),
        ({"body": CHAT | {"model": "nobody"}}, 404, "model_not_found"),
        ({"body": CHAT | {"model": "simulator-rerank"}}, 422, "wrong_model_type"),
        ({"priority": 1}, 403, "permission_denied"),
        ({"timeout": 3601}, 422, "invalid_request"),
        ({"max_attempts": 11}, 422, "invalid_request"),
        ({"result_ttl": 59}, 422, "invalid_request"),
        ({"start_timeout": 604_801}, 422, "invalid_request"),
        ({"not_before": int(time.time()) + 31 * 86_400}, 422, "invalid_request"),
        ({"metadata": {"k": "v" * 513}}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_a_job_is_refused(
    sluice: Installation, members: dict[str, Any], status: int, code: str
) -> None:
    response = await send(sluice, **members)

    answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (status, code)
    assert await sluice.rows(JobRow) == []


async def test_faults_of_the_body_are_named_in_it(sluice: Installation) -> None:
    response = await send(sluice, CHAT | {"max_tokens": 0})

    assert (await response.json())["detail"][0]["loc"] == ["body", "body", "max_tokens"]


async def test_the_same_key_gives_the_same_job(both: Installation) -> None:
    key = {"Idempotency-Key": "k"}

    first, second = [await send(both, headers=key) for _ in range(2)]
    other = await send(both, CHAT | {"n": 2}, headers=key)

    assert (first.status, second.status, second.headers["Idempotency-Replayed"]) == (202, 202, "true")
    assert second.headers["x-job-id"] == first.headers["x-job-id"]
    assert (await other.json())["error"]["code"] == "idempotency_key_reused"


async def test_limits_hold_as_on_the_own_route(sluice: Installation) -> None:
    await sluice.grant(1, rpm=1)
    me = await key_of(sluice, (await add_user(sluice))["id"])

    first, second = [await send(sluice, headers=me) for _ in range(2)]

    assert first.status == 202
    assert await refused(second) == (429, "1 requests per minute exceeded (remaining: 0).")
