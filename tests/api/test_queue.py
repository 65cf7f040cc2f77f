"""GET /v1/queue, and where a job stands in it."""

import time

from tests.installation import Installation, run_workers
from tests.people import add_user, key_of
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}


async def test_what_waits_is_counted_by_band_and_model(idle: Installation) -> None:
    me = await key_of(idle, (await add_user(idle))["id"])
    for _ in range(3):
        await idle.chat(headers=ASYNC)
    await idle.chat(headers=ASYNC | me)

    mine = await (await idle.client.get("/v1/queue", headers=me)).json()
    everybodys = await (await idle.get("/v1/queue")).json()

    assert (mine["depth"], everybodys["depth"], everybodys["in_progress"]) == (1, 4, 0)
    assert everybodys["bands"] == [
        {"band": "interactive", "queued": 0}, {"band": "background", "queued": 4}, {"band": "batch", "queued": 0},
    ]  # fmt: skip
    assert everybodys["models"] == [{"model": "simulator", "queued": 4, "in_progress": 0, "started_per_minute": 0.0}]


async def test_an_empty_queue_is_empty(sluice: Installation) -> None:
    assert await (await sluice.get("/v1/queue")).json() == {
        "object": "queue", "depth": 0, "in_progress": 0, "oldest_queued_seconds": 0, "models": [],
        "bands": [{"band": band, "queued": 0} for band in ("interactive", "background", "batch")],
    }  # fmt: skip


async def test_a_job_tells_its_place(idle: Installation) -> None:
    jobs = [(await (await idle.chat(headers=ASYNC)).json())["id"] for _ in range(3)]

    await eventually(lambda: _position(idle, jobs[2], 3))

    assert [(await idle.job(job_id))["queue_position"] for job_id in jobs] == [1, 2, 3]


async def _position(installation: Installation, job_id: str, position: int) -> bool:
    return bool((await installation.job(job_id))["queue_position"] == position)


async def test_the_start_is_estimated_from_the_last_minutes(idle: Installation) -> None:
    async with run_workers(idle.state.settings):
        for _ in range(5):
            await idle.chat()
        await eventually(lambda: _pace(idle))
    job_id = (await (await idle.chat(headers=ASYNC)).json())["id"]

    await eventually(lambda: _position(idle, job_id, 1))

    job = await idle.job(job_id)
    assert job["created_at"] <= job["estimated_start_at"] <= job["created_at"] + 120


async def _pace(installation: Installation) -> bool:
    return bool(await installation.state.redis.keys("sluice:started:*"))


async def test_a_deferred_job_tells_when_it_may_begin(idle: Installation) -> None:
    later = int(time.time()) + 500
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hello"}]}
    response = await idle.post("/v1/jobs", {"endpoint": "/v1/chat/completions", "body": body, "not_before": later})

    job = await idle.job((await response.json())["id"])

    assert (job["queue_position"], job["estimated_start_at"]) == (None, later)


async def test_a_finished_job_has_no_place(sluice: Installation) -> None:
    job = await sluice.job((await sluice.chat()).headers["x-job-id"])

    assert (job["queue_position"], job["estimated_start_at"]) == (None, None)
