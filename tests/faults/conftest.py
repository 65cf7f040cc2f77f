"""Fixtures of the fault tests: an installation in real processes, on each database in turn."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.faults.processes import Processes


@pytest_asyncio.fixture
async def processes(tmp_path: Path, database_url: str) -> AsyncIterator[Processes]:
    """A running installation; with PostgreSQL it has two api and two worker processes."""
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    options = {"lease_s": 2, "stream_grace_s": 5}
    if database_url.startswith("postgresql"):
        options |= {"database_url": database_url, "workers": 2, "api_processes": 2}
    running = Processes(folder, **options)
    try:
        await running.start()
        yield running
    finally:
        await running.close()
