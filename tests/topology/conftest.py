"""What deploy/compose.yaml starts, as processes: PostgreSQL, Redis, apis, workers, and Caddy with its own file."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.processes import free_port
from tests.servers import TcpRedisServer
from tests.topology.parts import Topology

pytest.register_assert_rewrite("tests.faults.invariants")


@contextmanager
def running_redis(folder: Path) -> Iterator[TcpRedisServer]:
    """Yield a Redis that keeps its data when it starts again."""
    folder.mkdir()
    server = TcpRedisServer(folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def running_topology(tmp_path: Path, *urls: str) -> AsyncIterator[Topology]:
    """Yield a running installation of several parts, given the URLs of its database and of each Redis."""
    if shutil.which("caddy") is None:
        assert "CI" not in os.environ, "caddy is missing"
        pytest.skip("needs caddy (Debian: apt-get install caddy)")
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    running = Topology(folder, *urls)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


@pytest.fixture
def own_tcp_redis(tmp_path: Path) -> Iterator[TcpRedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest_asyncio.fixture
async def topology(tmp_path: Path, own_database_url: str, own_tcp_redis: TcpRedisServer) -> AsyncIterator[Topology]:
    async with running_topology(tmp_path, own_database_url, own_tcp_redis.url) as running:
        yield running


@pytest_asyncio.fixture
async def topology_of_two_shards(
    tmp_path: Path, own_database_url: str, own_tcp_redis: TcpRedisServer
) -> AsyncIterator[Topology]:
    with running_redis(tmp_path / "second") as second:
        async with running_topology(tmp_path, own_database_url, own_tcp_redis.url, second.url) as running:
            yield running
