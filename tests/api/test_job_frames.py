"""Lifecycle frames of jobs that were tried more than once."""

import json
from typing import Any

from tests.events import read_events
from tests.installation import Installation
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}


async def frames_of(sluice: Installation, job_id: str) -> list[Any]:
    """Return the events of a job, the output among them."""
    answer = await sluice.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"})
    return list((await answer.json())["data"])


async def retried(sluice: Installation, **members: Any) -> str:
    """Return the id of a job that is over at its third attempt; it waits before each retry."""
    simulator = {"fail": "429", "fail_attempts": 2}
    accepted = await sluice.chat(simulator=simulator, headers=ASYNC, **members)
    job_id = str((await accepted.json())["id"])

    async def is_over() -> bool:
        return (await sluice.job(job_id))["completed_at"] is not None

    await eventually(is_over)
    return job_id


async def test_a_planned_retry_says_when(both: Installation) -> None:
    accepted = await both.chat(simulator={"fail": "429"}, headers=ASYNC)
    job_id = (await accepted.json())["id"]

    async def planned() -> Any:
        job = await both.job(job_id)
        return job if job["next_attempt_at"] is not None else None

    job = await eventually(planned)
    frames = {frame["id"]: frame for frame in await frames_of(both, job_id)}

    retry = frames[f"{job['attempt']}-1"]
    assert retry["event"] == "job.retry_scheduled"
    assert retry["data"]["next_attempt_at"] >= job["next_attempt_at"]  # later if it has begun meanwhile


async def test_a_retry_that_has_begun_says_when(both: Installation) -> None:
    job_id = await retried(both)

    attempts = (await (await both.get(f"/v1/jobs/{job_id}/attempts")).json())["data"]
    planned = [frame["data"] for frame in await frames_of(both, job_id) if frame["event"] == "job.retry_scheduled"]

    assert [frame["next_attempt_at"] for frame in planned] == [attempt["started_at"] for attempt in attempts[1:]]
    assert planned


async def test_each_attempt_of_a_stream_says_when_it_began(both: Installation) -> None:
    accepted = await both.chat(stream=True, simulator={"fail": "429", "fail_attempts": 2}, headers=ASYNC)
    job_id = (await accepted.json())["id"]

    followed = [json.loads(event.data) for event in await read_events(await both.get(f"/v1/jobs/{job_id}/events"))]
    listed = [frame["data"] for frame in await frames_of(both, job_id)]

    attempts = (await (await both.get(f"/v1/jobs/{job_id}/attempts")).json())["data"]
    begun = [attempt["started_at"] for attempt in attempts]
    for frames in (followed, listed):
        assert [frame["created_at"] for frame in frames if frame.get("type") == "job.started"] == begun
    assert begun[-1] > begun[0]


async def test_a_retry_without_output_is_no_restart_for_who_resumes(both: Installation) -> None:
    accepted = await both.chat(stream=True, simulator={"fail": "429", "fail_attempts": 2, "tokens": 3}, headers=ASYNC)
    job_id = (await accepted.json())["id"]

    async def planned() -> str | None:
        return next((frame["id"] for frame in await frames_of(both, job_id) if _is_retry(frame)), None)

    cursor = await eventually(planned)
    rest = await read_events(await both.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": cursor}))

    names = [event.event for event in rest if event.event is not None]
    assert names == ["job.started", "job.retry_scheduled", "job.started", "job.completed"]


def _is_retry(frame: Any) -> bool:
    return bool(frame["event"] == "job.retry_scheduled")
