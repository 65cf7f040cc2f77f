"""PostgreSQL as a store: one connection, one transaction per batch, reconnected when it breaks.

Units that consist of the same statements are sent together, statement by statement, without waiting in between.  For
that a statement is wrapped so that every row it returns names its unit; the results are exact, and a batch of 100 units
of 5 statements costs 5 round trips instead of 500.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from shared.group_commit.units import (
    RefusedError,
    Result,
    StaleError,
    Statement,
    StoreUnavailableError,
    Unit,
    WriterBusyError,
    check,
)

_CHANGES_ROWS: Final = re.compile(r"\s*(INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_RETURNING: Final = re.compile(r"\bRETURNING\b", re.IGNORECASE)
_MAX_PREPARED: Final = 256
_NOTHING: Final = Result([], -1)
_CONNECT_S: Final = 2.0
_COMMAND_S: Final = 3.0
"""A server that is silent for longer is taken for lost."""
_LOOK_S: Final = 0.05
_HANGS_S: Final = 30.0
_BACKEND: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_IS_THERE: Final = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"
_END: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"
_OPTIONS: Final = {"plan_cache_mode": "force_generic_plan"}
"""Every statement finds its rows by key, so one plan serves all parameters.  Left to itself, the server plans each
update of a table with partitions anew, which costs as much as the update."""
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # a replica until the failover ends
)
_PASSING: Final = (
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
"""What rolls a transaction back for reasons that lie in others."""


class PostgresStore:
    """The one connection that writes; `synchronous_commit` stays on."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[Any] | None = None
        self._backend: asyncpg.Record | None = None
        """The server's end of the connection: pid and start."""
        self._given_up: asyncpg.Record | None = None
        """One whose commit may still be under way."""
        self._given_up_at = 0.0
        self._prepared: dict[str, PreparedStatement[Any]] = {}

    async def commit(self, units: Sequence[Unit], *, durable: bool = True) -> list[list[Result]]:
        """Run all units in one transaction, which is always durable: without, a crash of the server forgets it."""
        try:
            connection = await self._connect()
            transaction = connection.transaction()
            await transaction.start()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            await self.close()
            raise WriterBusyError(repr(error)) from error
        try:
            try:
                results = await self._run_all(connection, units)
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()
        except StaleError as error:
            raise RefusedError(error, None) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self._prepared.clear()  # the schema may have changed
            if isinstance(error, _AWAY) or self._connection is None or self._connection.is_closed():
                await self._give_up()
                raise StoreUnavailableError(repr(error)) from error
            if len(units) == 1 and isinstance(error, _PASSING):
                raise WriterBusyError(repr(error)) from error
            raise RefusedError(error, None) from error
        return results

    async def close(self) -> None:
        """Drop the connection; the next commit opens another one."""
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            connection.terminate()

    async def _connect(self) -> "asyncpg.Connection[Any]":
        if self._connection is None or self._connection.is_closed():
            await self.close()
            connection = await asyncpg.connect(
                self._dsn, timeout=_CONNECT_S, command_timeout=_COMMAND_S, server_settings=_OPTIONS
            )
            try:
                await self._outlive(connection)
                self._backend = await connection.fetchrow(_BACKEND)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    async def _give_up(self) -> None:
        self._given_up, self._given_up_at = self._backend, time.monotonic()
        await self.close()

    async def _outlive(self, connection: "asyncpg.Connection[Any]") -> None:
        """Wait for the end of the backend that was given up: what it commits yet, whoever writes next has to see.

        It is ended only if it takes very long: a commit that is slow would else never come to its end.
        """
        if self._given_up is None:
            return
        deadline = time.monotonic() + _CONNECT_S
        while await connection.fetchval(_IS_THERE, *self._given_up):
            now = time.monotonic()
            if now - self._given_up_at > _HANGS_S:
                await connection.execute(_END, *self._given_up)
            if now > deadline:
                raise WriterBusyError("the transaction that was given up has not ended")
            await asyncio.sleep(_LOOK_S)
        self._given_up = None

    async def _run_all(self, connection: "asyncpg.Connection[Any]", units: Sequence[Unit]) -> list[list[Result]]:
        """Run all units; statements of one kind side by side, which is allowed since units are independent."""
        results = [[_NOTHING] * len(unit) for unit in units]
        for places in _steps(units):
            statements = [units[index][position] for index, position in places]
            for (index, position), result in zip(places, await self._run_each(connection, statements), strict=True):
                results[index][position] = result
        return results

    async def _run_each(self, connection: "asyncpg.Connection[Any]", statements: list[Statement]) -> list[Result]:
        sql = statements[0].sql
        if len(statements) == 1 or not _CHANGES_ROWS.match(sql):
            results = [await self._run(connection, statement) for statement in statements]
        elif all(statement.expects is None for statement in statements) and not _RETURNING.search(sql):
            await connection.executemany(sql, [statement.parameters for statement in statements])
            return [Result([], -1)] * len(statements)
        else:
            results = await _run_together(connection, sql, statements)
        return [check(statement, result) for statement, result in zip(statements, results, strict=True)]

    async def _run(self, connection: "asyncpg.Connection[Any]", statement: Statement) -> Result:
        prepared = self._prepared.get(statement.sql)
        if prepared is None:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            prepared = self._prepared[statement.sql] = await connection.prepare(statement.sql)
        rows = [tuple(row) for row in await prepared.fetch(*statement.parameters)]
        count = (prepared.get_statusmsg() or "").rpartition(" ")[2]  # of "UPDATE 3", "INSERT 0 1", "CREATE TABLE"
        return Result(rows, int(count) if count.isdigit() else 0)


def _steps(units: Sequence[Unit]) -> list[list[tuple[int, int]]]:
    """Return the order in which statements run: groups of one SQL text, each statement given by unit and position.

    Units of one shape go statement by statement; the shared statements of all units come last, sorted.
    """
    shapes: dict[tuple[str, ...], list[int]] = {}
    shared: list[tuple[str, str, int, int]] = []
    for index, unit in enumerate(units):
        own = tuple(statement.sql for statement in unit if not statement.is_shared)
        shapes.setdefault(own, []).append(index)
        shared += [(unit[at].sql, str(unit[at].parameters[0]), index, at) for at in range(len(own), len(unit))]
    steps = [[(index, at) for index in indexes] for shape, indexes in shapes.items() for at in range(len(shape))]
    return steps + [[one[2:] for one in group] for _, group in groupby(sorted(shared), key=itemgetter(0))]


async def _run_together(connection: "asyncpg.Connection[Any]", sql: str, statements: list[Statement]) -> list[Result]:
    """Run one statement once per set of parameters, in one round trip.

    Should the wrapping not suit a statement, it is refused, the batch is halved, and the unit runs unwrapped.
    """
    has_rows = _RETURNING.search(sql) is not None
    returning = sql if has_rows else f"{sql} RETURNING 1"
    number = f"${len(statements[0].parameters) + 1}::int"
    wrapped = f"WITH written AS ({returning}) SELECT {number}, written.* FROM written"  # noqa: S608  # callers' own SQL
    arguments = [(*statement.parameters, index) for index, statement in enumerate(statements)]
    rows: list[list[tuple[Any, ...]]] = [[] for _ in statements]
    for index, *row in await connection.fetchmany(wrapped, arguments):
        rows[index].append(tuple(row))
    return [Result(found if has_rows else [], len(found)) for found in rows]
