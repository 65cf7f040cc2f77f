"""Fixtures of the fault tests: an installation in real processes, on each database in turn."""

import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import ENGINES, name_after
from tests.databases import new_postgres_database
from tests.faults.processes import Processes
from tests.servers import PostgresServer

pytest.register_assert_rewrite("tests.faults.invariants")  # so that a broken promise tells what it saw
_HERE = Path(__file__).parent
ALLOWED = {
    "webhook_allow_http": "true", "webhook_allow_literals": "true", "webhook_allow_networks": "127.0.0.1/32",
}  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run each fault test on one database, by its name, unless `--all-cases` is given: they take minutes."""
    if config.getoption("--all-cases"):
        return
    left_out = [item for item in items if item.path.is_relative_to(_HERE) and _is_on_the_other(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_on_the_other(item: pytest.Item) -> bool:
    parameters = getattr(item, "callspec", None)
    engine = None if parameters is None else parameters.params.get("database_url")
    name = getattr(item, "originalname", item.name)
    return engine is not None and engine != ENGINES[zlib.crc32(name.encode()) % len(ENGINES)]


@pytest_asyncio.fixture
async def processes(tmp_path: Path, database_url: str) -> AsyncIterator[Processes]:
    """A running installation; with PostgreSQL it has two api and two worker processes."""
    options = {"lease_s": 2, "stream_grace_s": 5}
    if database_url.startswith("postgresql"):
        options |= {"database_url": database_url, "workers": 2, "api_processes": 2}
    running = Processes(new_folder(tmp_path), **options)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


@pytest_asyncio.fixture
async def telling(tmp_path: Path, database_url: str) -> AsyncIterator[Processes]:
    """A running installation that may send webhooks to this machine; with PostgreSQL it has two workers."""
    options: dict[str, Any] = {"lease_s": 2, "accept_patience_s": 5} | ALLOWED
    if database_url.startswith("postgresql"):
        options |= {"database_url": database_url, "workers": 2, "api_processes": 2}
    running = Processes(new_folder(tmp_path), **options)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of an installation that the test starts itself."""
    return new_folder(tmp_path)


def new_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "d"  # short, since it holds a socket
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may kill, if it starts it again."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.close()


@pytest.fixture
def own_database_url(own_postgres: PostgresServer, tmp_path: Path) -> str:
    """An empty database on that server."""
    return new_postgres_database(own_postgres.url, name_after(tmp_path))
