"""The database handle for everything but hot writes, which go through `shared.group_commit`.

SQLite: WAL and `synchronous=FULL`; readers never wait for the writer.  PostgreSQL: asyncpg.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

SQLITE_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON")
_SQLITE: Final = "sqlite:///"


_CONNECT_S = 5.0


def sqlite_path(url: str) -> Path | None:
    """Return the file of a `sqlite:///` URL; None for PostgreSQL."""
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def postgres_dsn(url: str) -> str:
    """Return the URL as asyncpg takes it."""
    return url.replace("postgres://", "postgresql://", 1)


def create_engine(url: str) -> AsyncEngine:
    """Return an engine for a `sqlite:///` or `postgresql://` URL."""
    path = sqlite_path(url)
    if path is None:
        dsn = postgres_dsn(url).replace("postgresql://", "postgresql+asyncpg://", 1)
        limits = {"timeout": _CONNECT_S}
        return create_async_engine(dsn, pool_size=5, max_overflow=5, pool_pre_ping=True, connect_args=limits)
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=5)

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # A statement cancelled twice is stopped twice; the second stop would wait for a thread that has ended, and the
        # process for it.
        connection.driver_connection.stop = cache(connection.driver_connection.stop)
        connection.isolation_level = None  # the driver's own BEGIN is deferred; ours says what it wants
        for pragma in SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def sqlstate_of(error: Exception) -> str:
    """Return PostgreSQL's code of an error, such as `40001`; empty if it has none."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def is_away(error: Exception) -> bool:
    """Return whether the database, not the statement, is at fault; SQLSTATE 08, 53, 57 of PostgreSQL.

    SQLite has one class for both; its code `SQLITE_ERROR` is that of statements that can never work.
    """
    if not isinstance(error, DBAPIError) or isinstance(error, InterfaceError | OperationalError):
        return getattr(getattr(error, "orig", None), "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    return error.connection_invalidated or sqlstate_of(error).startswith(("08", "53", "57"))


def is_outage(error: Exception) -> bool:
    """Return whether an exception of any code says that the database is away for a while."""
    if isinstance(error, ExceptionGroup):
        return all(map(is_outage, error.exceptions))
    return isinstance(error, DBAPIError | PoolTimeoutError | TimeoutError | ConnectionError) and is_away(error)


class Database:
    """Owns the engine; opened once per process.

    Keep every block short and never await the network in it.
    """

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self._writer = self.engine.execution_options(writes=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Yield a session; commit on success, roll back on any exception."""
        async with AsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Yield a session that writes nothing."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def connect_sqlite(path: Path, *, timeout_s: float = 5.0, check_same_thread: bool = True) -> sqlite3.Connection:
    """Open the file with autocommit and the pragmas every connection of Sluice uses."""
    connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=check_same_thread)
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection
