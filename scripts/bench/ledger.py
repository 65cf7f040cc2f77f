"""Read from an installation's database what became of its jobs: the judge of every scenario."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from machine import BenchError

_UNFINISHED = "SELECT count(*) FROM jobs WHERE finished_ms IS NULL"
_SUMS = """SELECT count(*), count(finished_ms), sum(CASE WHEN status = 'completed' THEN 1 ELSE 0 END),
    sum(CASE WHEN status = 'cancelled' AND attempt = 0 THEN 1 ELSE 0 END),
    (SELECT count(*) FROM charges) FROM jobs"""
_SPAN = "SELECT count(*), min(finished_ms), max(finished_ms) FROM jobs WHERE finished_ms IS NOT NULL"


@dataclass(frozen=True)
class Totals:
    """Numbers of rows."""

    jobs: int
    finished: int
    completed: int
    withdrawn: int
    """Cancelled before they began: their callers had been told 503, as the load's errors say."""
    charges: int


@dataclass(frozen=True)
class Span:
    """How many jobs finished, and the milliseconds between the first and the last of them."""

    jobs: int
    ms: int


class Ledger:
    """Reads one database; its statements cost the database next to nothing."""

    def __init__(self, url: str) -> None:
        self._url = url

    def count(self) -> Totals:
        """Return what is in the database now."""
        return Totals(*(int(value or 0) for value in self.row(_SUMS)))

    def span(self) -> Span:
        """Return how long it took to finish all jobs that are finished."""
        jobs, first_ms, last_ms = self.row(_SPAN)
        return Span(jobs, (last_ms or 0) - (first_ms or 0))

    def wait_until_done(self, within_s: float) -> None:
        """Return when no job waits or runs; raises `BenchError` if that takes too long."""
        deadline = time.monotonic() + within_s
        while left := self.row(_UNFINISHED)[0]:
            if time.monotonic() > deadline:
                raise BenchError(f"{left} jobs are not finished after {within_s:.0f} s")
            time.sleep(min(max(left / 4000, 0.1), 1.0))

    def check(self) -> Totals:
        """Return the totals; raises `BenchError` unless every job was completed, or withdrawn, and charged once."""
        totals = self.count()
        if not totals.jobs == totals.finished == totals.completed + totals.withdrawn == totals.charges:
            raise BenchError(f"not every job was completed and charged once: {totals}")
        return totals

    def row(self, statement: str) -> Sequence[Any]:
        """Return the first row of a statement."""
        return next(iter(self.rows(statement)), ())

    def rows(self, statement: str) -> Sequence[Sequence[Any]]:
        """Return all rows of a statement."""
        if self._url.startswith("sqlite:///"):
            connection = sqlite3.connect(f"file:{self._url.removeprefix('sqlite:///')}?mode=ro", timeout=5, uri=True)
            try:
                return connection.execute(statement).fetchall()
            finally:
                connection.close()
        return asyncio.run(_postgres_rows(self._url, statement))


async def _postgres_rows(url: str, statement: str) -> Sequence[Sequence[Any]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()
