"""Statements on rows that many units change, budgets for one, the same on SQLite and PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest_asyncio

from shared.database import sqlite_path
from shared.group_commit import open_writer
from shared.group_commit.units import Statement, Unit, insert_sql
from shared.group_commit.writer import GroupCommit

TABLES = (
    "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, spent BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS budgets (id TEXT PRIMARY KEY, spent BIGINT NOT NULL)",
)
NAMES = [f"owner {number}" for number in range(12)]
INSERT = insert_sql("jobs", ("id",))


@pytest_asyncio.fixture
async def writers(database_url: str) -> AsyncIterator[list[GroupCommit]]:
    """Several writers on one database; SQLite has room for one at a time."""
    opened = [open_writer(database_url) for _ in range(1 if sqlite_path(database_url) else 3)]
    for table in TABLES:
        await opened[0].execute(table)
    for name in NAMES:
        for table in ("accounts", "budgets"):
            await opened[0].execute(insert_sql(table, ("id", "spent")), (name, 0))
    yield opened
    for writer in opened:
        await writer.close()


def spend(table: str, name: str) -> Statement:
    sql = f"UPDATE {table} SET spent = spent + $2 WHERE id = $1 RETURNING id, spent"
    return Statement(sql, (name, 1), is_shared=True)


async def test_results_stand_where_the_statements_stand(writers: list[GroupCommit]) -> None:
    unit = (Statement(INSERT, ("j",)), spend("budgets", NAMES[3]), spend("accounts", NAMES[1]))

    results = await asyncio.gather(
        *(writers[0].execute_many((Statement(INSERT, (f"j{n}",)), *unit[1:])) for n in range(9))
    )

    for _, budget, account in results:
        assert (budget.rows[0][0], account.rows[0][0]) == (NAMES[3], NAMES[1])
    assert sorted(budget.rows[0][1] for _, budget, _ in results) == list(range(1, 10))


async def test_writers_that_change_the_same_rows_never_wait_for_each_other_for_ever(
    writers: list[GroupCommit],
) -> None:
    chance = random.Random(7)

    def unit(number: int) -> Unit:
        names = chance.sample(NAMES, 2)
        statements = [spend("budgets", names[0]), spend("accounts", names[1])]
        chance.shuffle(statements)
        return (Statement(INSERT, (f"job {number}",)), *statements)

    written = (writers[number % len(writers)].execute_many(unit(number)) for number in range(600))
    await asyncio.gather(*written)

    for table in ("accounts", "budgets"):
        assert (await writers[0].execute(f"SELECT CAST(SUM(spent) AS BIGINT) FROM {table}")).rows[0][0] == 600
