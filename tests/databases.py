"""Databases: empty ones, and copies of one that is ready to serve, since migrations take longer than most tests."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import asyncpg

from shared.settings import Settings
from worker.bootstrap import prepare


@cache
def prepared_sqlite() -> bytes:
    """Return the file of a database that `prepare` has made."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=folder)
        asyncio.run(prepare(settings))
        return (settings.data_path / "sluice.db").read_bytes()


@contextmanager
def prepared_postgres(server_url: str, name: str) -> Iterator[str]:
    """Yield the URL of a database that `prepare` has made; it is dropped afterwards."""
    _execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{_postgres_template(server_url)}"')
    yield url_of(server_url, name)
    _execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@cache
def _postgres_template(server_url: str) -> str:
    """Make the database that others are copies of; returns its name."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=folder, database_url=new_postgres_database(server_url, "prepared"))
        asyncio.run(prepare(settings))
    return "prepared"


def new_postgres_database(server_url: str, name: str) -> str:
    """Create an empty database and return its URL."""
    _execute(server_url, f'CREATE DATABASE "{name}"')
    return url_of(server_url, name)


def wait_for_no_disk(server_url: str) -> None:
    """Make a server faster: what a test kills is its processes, never the machine."""
    _execute(server_url, "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off")
    _execute(server_url, "SELECT pg_reload_conf()")


def _execute(server_url: str, *statements: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(server_url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(execute())


def url_of(server_url: str, name: str) -> str:
    """Return the URL of a database on a server."""
    head, _, query = server_url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
