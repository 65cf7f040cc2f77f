"""Streams whose caller went away: who comes back in time, by whichever way, keeps the job running."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.waiting import eventually

LONG = {"tokens": 120, "chunk_delay_ms": 50}
GRACE_S = 3.0


@pytest_asyncio.fixture
async def hasty(tmp_path: Path, redis_server: Any) -> AsyncIterator[Installation]:
    """An installation that soon cancels streams that nobody reads."""
    async with open_installation(make_settings(tmp_path, redis_server, stream_grace_s=GRACE_S)) as sluice:
        yield sluice


async def drop_stream(sluice: Installation, tokens: int = 120) -> str:
    """Begin a stream that takes longer than the grace period, and close the connection; returns the job's id."""
    response = await sluice.chat(stream=True, simulator=LONG | {"tokens": tokens})
    await response.content.readuntil(b"\n\n")
    response.close()
    return str(response.headers["x-job-id"])


async def test_a_repeated_stream_request_keeps_its_job_running(hasty: Installation) -> None:
    job_id = await drop_stream(hasty)

    again = await hasty.chat(stream=True, simulator=LONG, headers={"x-stainless-retry-count": "1"})
    said = await again.text()

    assert (again.status, again.headers["x-job-id"]) == (200, job_id)
    assert said.endswith("data: [DONE]\n\n")
    assert (await hasty.job(job_id))["status"] == "completed"


@pytest.mark.parametrize("path", ["/v1/jobs/{}/result", "/v1/chat/completions/{}"])
async def test_who_waits_for_the_result_keeps_the_stream_running(hasty: Installation, path: str) -> None:
    job_id = await drop_stream(hasty)

    result = await hasty.get(path.format(job_id.replace("job_", "chatcmpl-")), params={"wait": "30"})

    assert result.status == 200, await result.text()


async def test_who_stops_waiting_for_the_result_begins_the_grace_period(hasty: Installation) -> None:
    job_id = await drop_stream(hasty, tokens=600)

    result = await hasty.get(f"/v1/jobs/{job_id}/result", params={"wait": "1"})

    async def is_over() -> bool:
        return (await hasty.job(job_id))["completed_at"] is not None

    assert (result.status, (await result.json())["error"]["code"]) == (409, "job_not_finished")
    await eventually(is_over)
    assert (await hasty.job(job_id))["status"] == "cancelled"
