"""A statement that is cancelled leaves nothing behind, however often it is cancelled."""

import asyncio

import pytest
from sqlalchemy import text
from sqlmodel import select

from shared.database import Database

LONG = text(
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 3000000)"
    " SELECT count(*) FROM numbers"
)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_cancelled_statement_leaves_no_task(database_url: str, times: int) -> None:
    database = Database(database_url)

    async def read() -> None:
        async with database.engine.connect() as connection:
            await connection.execute(LONG)

    before = asyncio.all_tasks()
    reading = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    for _ in range(times):
        reading.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await reading

    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:  # who closes the connection may go on for as long as the statement
            await asyncio.sleep(0.05)
    async with database.read() as session:
        assert (await session.exec(select(1))).one() == 1
    await database.close()
