"""What deploy/compose.yaml starts, as processes: PostgreSQL, Redis, apis, workers, and Caddy with its own file."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.processes import free_port
from tests.servers import TcpRedisServer
from tests.topology.parts import Topology

pytest.register_assert_rewrite("tests.faults.invariants")


@pytest.fixture
def own_tcp_redis(tmp_path: Path) -> Iterator[TcpRedisServer]:
    """A Redis that keeps its data when it starts again."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = TcpRedisServer(folder, free_port())
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture
async def topology(tmp_path: Path, own_database_url: str, own_tcp_redis: TcpRedisServer) -> AsyncIterator[Topology]:
    """A running installation of several parts."""
    if shutil.which("caddy") is None:
        assert "CI" not in os.environ, "caddy is missing"
        pytest.skip("needs caddy (Debian: apt-get install caddy)")
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    running = Topology(folder, own_database_url, own_tcp_redis.url)
    try:
        await running.start()
        yield running
    finally:
        await running.close()
