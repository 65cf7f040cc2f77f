"""What is committed and what comes back.

CommitError
├── WriterBusyError        too many wait, or the database is away, locked or stalled; nothing was written
├── WriterClosedError      the process is leaving; nothing was written
├── StoreUnavailableError  the database is away; whether the unit was written is not known
└── StaleError             a statement changed another number of rows than it expected; nothing was written

An error of the statement itself reaches its caller as the driver raised it (`sqlite3.IntegrityError`, ..).
"""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

Parameter = str | bytes | int | float | bool | None


class Statement(Struct, frozen=True):
    """One SQL statement.  Placeholders are $1, $2, .. on both databases."""

    sql: str
    parameters: tuple[Parameter, ...] = ()
    expects: int | None = None
    """Rows it must insert or change, else its whole unit is undone: how a compare-and-set guards its neighbours."""
    is_shared: bool = False
    """It changes a row that units of other processes change, too, named by its first parameter.  It comes last in its
    unit and runs after all other statements of a batch, in the order of those names: so writers cannot wait for one
    another in a circle."""


class Result(Struct, frozen=True):
    """What one statement did."""

    rows: list[tuple[Any, ...]]
    """Rows of RETURNING or of a SELECT."""
    rowcount: int
    """Rows inserted, changed or deleted; -1 if nobody asked and the database did not say."""


Unit = tuple[Statement, ...]
"""Statements that are written together or not at all, in this order; units of one moment are independent."""


class CommitError(Exception):
    """Base of the errors of the writer itself."""


class WriterBusyError(CommitError):
    """The database cannot take the unit in time; it was not written."""


class WriterClosedError(CommitError):
    """The writer does not accept units any more."""


class StoreUnavailableError(CommitError):
    """The database could not be asked, or did not answer; the unit may have been written."""


class StaleError(CommitError):
    """Somebody else changed the row first."""


class RefusedError(Exception):
    """A statement of the batch was refused and nothing of the batch was written; never leaves the writer."""

    def __init__(self, cause: Exception, index: int | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.index = index
        """Which unit of the batch is at fault; None if the store cannot tell."""


class Store(Protocol):
    """A database as the writer sees it."""

    async def commit(self, units: Sequence[Unit], *, durable: bool) -> list[list[Result]]:
        """Run all units in one transaction; unless `durable`, it may be forgotten if the machine loses its power.

        Raises:
            WriterBusyError: the database is away or locked; nothing was written.
            RefusedError: a statement failed or did not meet its expectation; nothing was written.
            StoreUnavailableError: the outcome is not known.

        """
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


def check(statement: Statement, result: Result) -> Result:
    """Return the result; raises `StaleError` if it is not what the statement expects."""
    if statement.expects is not None and result.rowcount != statement.expects:
        raise StaleError(f"{result.rowcount} rows instead of {statement.expects}: {statement.sql}")
    return result


def insert_sql(table: str, columns: Sequence[str]) -> str:
    """Return an INSERT with one placeholder per column."""
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608  # names from the code
