"""The days of the request log on PostgreSQL: each is a partition, made ahead and dropped as a whole.

`request_logs_20261122` has the rows of that day (UTC), `request_logs_rest` those of no partition.  Rows that were there
before there were partitions are in the first one.  Ids sort by time, so the primary key alone tells the day.  Each
partition has a unique index of its own on job and attempt: one of the whole table would have to hold the id.
"""

import datetime as dt
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.clock import to_datetime
from shared.database import Database
from shared.ids import oldest_ulid

log = structlog.get_logger()
DAYS_AHEAD: Final = 7
_PREFIX: Final = "request_logs_"
_REST: Final = f"{_PREFIX}rest"
_DAY: Final = dt.timedelta(days=1)

_LOCK: Final = text("SELECT pg_advisory_xact_lock(5171210438)")
_WAIT: Final = text("SET LOCAL lock_timeout = '1s'")
"""Who waits for a lock on a table keeps others waiting: rather not now, and again in ten minutes."""
_ATTACHED: Final = text("""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'request_logs'::regclass AND c.relname ~ '_[0-9]{8}$' ORDER BY 1
""")
_DETACHED: Final = text("""
SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relname ~ '^request_logs_[0-9]{8}$'
    AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'request_logs'::regclass)
""")


def is_partitioned(database: Database) -> bool:
    """Return whether the log has partitions: SQLite has none."""
    return database.engine.dialect.name == "postgresql"


def partition_of(day: dt.date) -> str:
    """Return the name of the table that has the rows of a day."""
    return f"{_PREFIX}{day:%Y%m%d}"


def first_id(day: dt.date) -> str:
    """Return the smallest id of a day."""
    return oldest_ulid(int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp() * 1000))


async def make_partitions(database: Database, now_ms: int) -> None:
    """Make the partitions of today and the next days that are not there yet."""
    today = to_datetime(now_ms).date()
    there = await list_days(database)
    for day in (today + number * _DAY for number in range(DAYS_AHEAD + 1)):
        if there and day <= there[-1]:
            continue
        try:
            async with database.transaction() as session:
                await _make_partition(session, day)
        except DBAPIError as error:
            log.warning("partition_not_made", day=str(day), error=repr(error.orig))


async def _make_partition(session: AsyncSession, day: dt.date) -> None:
    """Make one; rows of that day that came before it move there."""
    name, first, last = partition_of(day), first_id(day), first_id(day + _DAY)
    for statement in (
        _LOCK, _WAIT,
        text(f"LOCK TABLE {_REST} IN ACCESS EXCLUSIVE MODE"),
        text(f"CREATE TABLE {name} (LIKE request_logs INCLUDING DEFAULTS) WITH (fillfactor = 50)"),  # see revision 0021
        text(f"CREATE UNIQUE INDEX {name}_attempt ON {name} (job_id, attempt)"),
        text(f"WITH moved AS (DELETE FROM {_REST} WHERE id >= '{first}' AND id < '{last}' RETURNING *)"  # noqa: S608
             f" INSERT INTO {name} SELECT * FROM moved"),
        text(f"ALTER TABLE request_logs ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{last}')"),
    ):  # fmt: skip
        await session.exec(statement)  # type: ignore[call-overload]  # names and ids are our own


async def drop_partitions(database: Database, before_ms: int) -> int:
    """Drop the partitions of days that were over at this instant; returns when the oldest one begins that is left.

    Taking one off needs the whole log for a moment; removing its files, which takes longer, needs nobody else's.
    """
    until = to_datetime(before_ms).date()
    left = [day for day in await list_days(database) if day >= until or not await _detach(database, day)]
    async with database.read() as session:
        detached = [name for (name,) in (await session.exec(_DETACHED)).all()]  # type: ignore[call-overload]
    for name in detached:
        async with database.transaction() as session:
            await session.exec(text(f"DROP TABLE IF EXISTS {name}"))  # type: ignore[call-overload]
        log.info("partition_dropped", name=name)
    if not left:
        return before_ms
    return int(dt.datetime(left[0].year, left[0].month, left[0].day, tzinfo=dt.UTC).timestamp() * 1000)


async def _detach(database: Database, day: dt.date) -> bool:
    try:
        async with database.transaction() as session:
            for statement in (_LOCK, _WAIT, text(f"ALTER TABLE request_logs DETACH PARTITION {partition_of(day)}")):
                await session.exec(statement)  # type: ignore[call-overload]
    except DBAPIError as error:
        log.warning("partition_not_dropped", day=str(day), error=repr(error.orig))
        return False
    return True


async def list_days(database: Database) -> list[dt.date]:
    """Return the days that have a partition, in order."""
    async with database.read() as session:
        names = [name for (name,) in (await session.exec(_ATTACHED)).all()]  # type: ignore[call-overload]
    return [dt.datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=dt.UTC).date() for name in names]
