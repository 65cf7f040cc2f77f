"""What deploy/compose.yaml starts, as processes: PostgreSQL, Redis, apis, workers, and Caddy with its own file."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import name_after
from tests.databases import new_postgres_database
from tests.faults.processes import free_port
from tests.servers import PostgresServer, TcpRedisServer
from tests.topology.parts import Topology

pytest.register_assert_rewrite("tests.faults.invariants")


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may kill, if it starts it again."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.close()


@pytest.fixture
def own_tcp_redis(tmp_path: Path) -> Iterator[TcpRedisServer]:
    """A Redis that keeps its data when it starts again."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = TcpRedisServer(folder, free_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_database_url(own_postgres: PostgresServer, tmp_path: Path) -> str:
    """An empty database on that server."""
    return new_postgres_database(own_postgres.url, name_after(tmp_path))


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
