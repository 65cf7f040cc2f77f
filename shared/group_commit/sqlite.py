"""SQLite as a store: one connection, used in a thread, or in the event loop for a few units on a fast disk.

Durable means that the write-ahead log is synced before the commit returns.  SQLite would do that with
`synchronous=FULL`, but while it holds the write lock, so that several processes sync one after the other.  Here the
connection runs with NORMAL, which is consistent but may forget the last commits when the power fails, and the log is
synced right after the commit, when the next process may already write.  Checkpoints, which take long, are made in a
thread of their own.
"""

import asyncio
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import structlog

from shared.database import connect_sqlite
from shared.group_commit.units import (
    RefusedError,
    Result,
    Statement,
    StoreUnavailableError,
    Unit,
    WriterBusyError,
    check,
)

log = structlog.get_logger()

_PRAGMAS: Final = ("synchronous=NORMAL", "temp_store=MEMORY", "cache_size=-65536", "wal_autocheckpoint=0")
_LOCK_WAIT_S: Final = 5.0
_FEW: Final = 2
_SHORT_S: Final = 0.002
"""Up to so many units are written in the event loop, as long as commits take no longer."""
_CHECKPOINT_UNITS: Final = 1000
_MOST_LOG_BYTES: Final = 64 * 1024 * 1024
_BUSY_PAUSE_S: Final = 0.0003
"""SQLite's own busy handler sleeps 1, 2, 5, 10 .. ms, which adds up to most of a request."""
_SYNC: Final = getattr(os, "fdatasync", os.fsync)
_PLACEHOLDER: Final = re.compile(r"\$(\d+)")


class SqliteStore:
    """The one connection that writes; other processes may write too, `BEGIN IMMEDIATE` makes them wait."""

    def __init__(self, path: Path, *, lock_wait_s: float = _LOCK_WAIT_S) -> None:
        self._path = path.resolve()  # as SQLite does, whose log stands beside the real file
        self._lock_wait_s = lock_wait_s
        self._took_s = 0.0
        """By the last commit."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._checkpointer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._checkpointing: Future[None] | None = None
        self._units = 0
        """Written since the last checkpoint."""
        self._connection: sqlite3.Connection | None = None
        self._log: int | None = None
        """The write-ahead log, as long as the connection is open."""
        self._is_log_torn = False
        self._translated: dict[str, str] = {}

    async def commit(self, units: Sequence[Unit], *, durable: bool = True) -> list[list[Result]]:
        """Run all units in one transaction: in the thread, or here if that is quicker than the hop."""
        self._units += len(units)
        if self._units >= _CHECKPOINT_UNITS and (self._checkpointing is None or self._checkpointing.done()):
            self._units = 0
            self._checkpointing = self._checkpointer.submit(self._checkpoint)
        if len(units) <= _FEW and self._took_s < _SHORT_S:
            with suppress(WriterBusyError):
                return self._commit(units, durable, 0.0)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._commit, units, durable, self._lock_wait_s)

    async def close(self) -> None:
        """Close the connection and its thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()
        self._checkpointer.shutdown()

    def _commit(self, units: Sequence[Unit], durable: bool, lock_wait_s: float) -> list[list[Result]]:
        begun = time.monotonic()
        try:
            connection = self._connection = self._connection or _connect(self._path)
            if self._is_log_torn:
                self._mend(connection)
            _begin(connection, lock_wait_s)
        except sqlite3.Error as error:
            raise WriterBusyError(f"{self._path.name}: {error}") from error
        index: int | None = None
        try:
            results = []
            for index, unit in enumerate(units):  # noqa: B007  # tells which unit was refused
                results.append([self._run(connection, statement) for statement in unit])
            index = None
            connection.execute("COMMIT")
        except Exception as error:  # a parameter may raise anything, OverflowError for one
            if connection.in_transaction:  # some errors, a full disk for one, have rolled back already
                connection.execute("ROLLBACK")
            if _is_about_the_file(error):
                raise StoreUnavailableError(f"{self._path.name}: {error}") from error
            raise RefusedError(error, index) from error
        if durable:
            self._sync()
        self._took_s = time.monotonic() - begun
        return results

    def _checkpoint(self) -> None:
        """Copy the log into the database, and once it has grown large, begin it anew: the only step that locks.

        That step is left to the next checkpoint if somebody reads: it would keep all writers out while it waits.
        """
        try:
            with closing(connect_sqlite(self._path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                connection.execute("PRAGMA busy_timeout=0")
                if Path(f"{self._path}-wal").stat().st_size > _MOST_LOG_BYTES:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (sqlite3.Error, OSError) as error:
            log.warning("checkpoint_failed", error=repr(error))

    def _sync(self) -> None:
        try:
            if self._log is None:
                self._log = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            _SYNC(self._log)
        except OSError as error:
            self._is_log_torn = True
            raise StoreUnavailableError(f"{self._path.name}: {error}") from error

    def _mend(self, connection: sqlite3.Connection) -> None:
        """Copy a log that could not be synced: its pages may never reach the disk, so nothing is promised before."""
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise WriterBusyError("The log could not be synced.")
        self._is_log_torn = False

    def _run(self, connection: sqlite3.Connection, statement: Statement) -> Result:
        sql = self._translated.get(statement.sql)
        if sql is None:
            sql = self._translated[statement.sql] = _PLACEHOLDER.sub(r"?\1", statement.sql)
        cursor = connection.execute(sql, statement.parameters)
        rows = cursor.fetchall()
        return check(statement, Result(rows, max(cursor.rowcount, 0)))

    def _disconnect(self) -> None:
        if self._log is not None:
            os.close(self._log)
            self._log = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(path: Path) -> sqlite3.Connection:
    connection = connect_sqlite(path, check_same_thread=False)  # never used by two threads at once
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA busy_timeout=0")
    return connection


def _begin(connection: sqlite3.Connection, wait_s: float) -> None:
    """Take the write lock; several processes write in turn.  Raises `WriterBusyError` if somebody keeps it."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > deadline:
                raise WriterBusyError("The database is locked.") from error
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _is_about_the_file(error: Exception) -> bool:
    """Return whether every unit would meet the error: disk full, I/O error, locked, corrupt."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    return code in (
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    )  # fmt: skip
