"""Fixtures of the fault tests: an installation in real processes, on each database in turn."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.processes import Processes

pytest.register_assert_rewrite("tests.faults.invariants")  # so that a broken promise tells what it saw
ALLOWED = {
    "webhook_allow_http": "true", "webhook_allow_literals": "true", "webhook_allow_networks": "127.0.0.1/32",
}  # fmt: skip


@pytest_asyncio.fixture
async def processes(tmp_path: Path, prepared_url: str) -> AsyncIterator[Processes]:
    """A running installation; with PostgreSQL it has two api and two worker processes."""
    options = {"lease_s": 2, "stream_grace_s": 5}
    if prepared_url.startswith("postgresql"):
        options |= {"database_url": prepared_url, "workers": 2, "api_processes": 2}
    running = Processes(new_folder(tmp_path), **options)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


@pytest_asyncio.fixture
async def telling(tmp_path: Path, prepared_url: str) -> AsyncIterator[Processes]:
    """A running installation that may send webhooks to this machine; with PostgreSQL it has two workers."""
    options: dict[str, Any] = {"lease_s": 2, "accept_patience_s": 5} | ALLOWED
    if prepared_url.startswith("postgresql"):
        options |= {"database_url": prepared_url, "workers": 2, "api_processes": 2}
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
