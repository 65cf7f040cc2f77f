"""One lane, its queue, and workers on it: in this process and in processes of their own."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from arq import ArqRedis
from msgspec import json

from shared.queue.connections import open_pool
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import PLATFORM, open_lane
from tests.servers import RedisServer
from tests.worker.job_functions import FUNCTIONS
from tests.worker.journal import Journal
from worker.engine import LeasedWorker

ROOT = Path(__file__).parents[2]

Connect = Callable[[], ArqRedis]
StartWorker = Callable[..., Awaitable[LeasedWorker]]
Spawn = Callable[..., "subprocess.Popen[bytes]"]

with_own_redis = pytest.mark.parametrize("server", ["own_redis"], indirect=True, ids=["own"])
"""For tests that kill Redis."""


@pytest.fixture
def server(request: pytest.FixtureRequest) -> RedisServer:
    """The Redis of the test."""
    server: RedisServer = request.getfixturevalue(getattr(request, "param", "redis_server"))
    return server


@pytest.fixture
def connect(server: RedisServer) -> Connect:
    """Return a new client of the lane, with its own connections."""
    return lambda: open_lane(open_pool(server.url), PLATFORM)


@pytest_asyncio.fixture
async def redis(connect: Connect) -> AsyncIterator[ArqRedis]:
    redis = connect()
    yield redis
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
def queue(redis: ArqRedis) -> JobQueue:
    return JobQueue(redis)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest_asyncio.fixture
async def start_worker(connect: Connect, journal: Journal) -> AsyncIterator[StartWorker]:
    """Start a worker in this process; it is closed after the test."""
    workers: list[LeasedWorker] = []

    async def start(functions: Any = FUNCTIONS, **options: Any) -> LeasedWorker:
        defaults: dict[str, Any] = {
            "lease_s": 1.0, "handle_signals": False, "keep_result": 0, "ctx": {"journal": journal},
        }  # fmt: skip
        worker = LeasedWorker(functions, redis_pool=connect(), **(defaults | options))
        worker.main_task = asyncio.get_running_loop().create_task(worker.main())
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        assert worker.main_task is not None
        if worker.main_task.cancelled():
            continue  # the test has closed it
        await worker.close()
        with suppress(asyncio.CancelledError):
            await worker.main_task


@pytest.fixture
def spawn(server: RedisServer, journal: Journal) -> Iterator[Spawn]:
    """Start a worker process; it is killed after the test."""
    children: list[subprocess.Popen[bytes]] = []

    def spawn(**options: Any) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(worker_command(server, journal, **options), cwd=ROOT)
        children.append(child)
        return child

    yield spawn
    for child in children:
        child.kill()
        child.wait()


def worker_command(server: RedisServer, journal: Journal, **options: Any) -> list[str]:
    text = json.encode({"url": server.url, "journal": str(journal.path)} | options)
    return [sys.executable, "-m", "tests.worker.worker_process", text.decode()]


async def left_over(redis: ArqRedis) -> list[str]:
    """Return the keys that should not be left when every job has its outcome."""
    lane = redis.default_queue_name
    expected = {
        f"{lane}:{name}"
        for name in ("epoch", "wake", "health-check", "credit", "clock", "tags", "workers", "alive", "slots")
    }
    keys = sorted(key.decode() for key in await redis.keys("*"))
    return [key for key in keys if key not in expected and not key.startswith("arq:result:")]


async def is_clean(redis: ArqRedis) -> bool:
    """Return whether every job has its outcome and nothing of it is left but a result."""
    return not await left_over(redis)
