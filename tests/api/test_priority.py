"""Who waits longest decides, unless somebody has a higher priority."""

from typing import Any

import pytest

from shared.jobs.tables import JobRow
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.people import add_user, key_of
from tests.waiting import eventually

LATER = {"Prefer": "respond-async"}


async def caller(installation: Installation, name: str, priority: int) -> dict[str, str]:
    user = await add_user(installation, f"{name}@example.com", priority=priority)
    return await key_of(installation, user["id"])


async def starts(installation: Installation) -> list[str]:
    """Return the ids of the jobs in the order in which they started, once all are over."""

    async def jobs() -> list[Any]:
        rows = await installation.rows(JobRow)
        return rows if all(row.finished_ms is not None for row in rows) else []

    return [row.id for row in sorted(await eventually(jobs), key=lambda row: row.started_ms)]


@pytest.mark.parametrize("priority", [4, 2**31 - 1])
async def test_a_caller_of_high_priority_is_next(tmp_path: Any, redis_server: Any, priority: int) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, worker_slots=1)) as sluice:
        ordinary = [await caller(sluice, f"ordinary{n}", 0) for n in range(10)]
        important = await caller(sluice, "important", priority)
        first = await sluice.chat(simulator={"delay_ms": 500}, headers=ordinary[0] | LATER)
        for one in ordinary:
            await sluice.chat(simulator={"delay_ms": 10}, headers=one | LATER)
        last = await sluice.chat(simulator={"delay_ms": 10}, headers=important | LATER)

        order = await starts(sluice)

        assert len(order) == 12
        assert first.headers["x-job-id"].endswith(order[0])
        assert any(last.headers["x-job-id"].endswith(job_id) for job_id in order[1:3])


async def test_a_flow_of_high_priority_goes_ahead_only_by_its_head_start(tmp_path: Any, redis_server: Any) -> None:
    async with open_installation(make_settings(tmp_path, redis_server), workers=False) as idle:
        ordinary, important = await caller(idle, "ordinary", 0), await caller(idle, "important", 2**31 - 1)
        one = await idle.chat(max_tokens=1000, headers=ordinary | LATER)
        for _ in range(60):
            await idle.chat(max_tokens=1000, simulator={"tokens": 1}, headers=important | LATER)
    async with open_installation(make_settings(tmp_path, redis_server, worker_slots=1)) as sluice:
        order = await starts(sluice)

    place = next(place for place, job_id in enumerate(order) if one.headers["x-job-id"].endswith(job_id))
    assert 30 < place <= 41
