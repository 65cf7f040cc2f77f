"""What the reconciler looks for each second is found by an index, however deep the queue is."""

from typing import Any

import pytest
from sqlalchemy import TextClause
from sqlmodel import text

from shared.database import Database
from shared.migrations import migrate
from worker.reconciler import _TO_END, _UNFINISHED

VALUES = {"now": 1, "page": 5, "shard": 0, "since": 0, "after": "", "until": 9}


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [(_TO_END, {"ix_jobs_cancelled", "ix_jobs_expiry"}), (_UNFINISHED, {"ix_jobs_unfinished_by_shard"})],
)
async def test_each_look_has_its_index(database_url: str, statement: TextClause, indexes: set[str]) -> None:
    database = Database(database_url)
    await migrate(database.engine)
    is_postgresql = database.engine.dialect.name == "postgresql"
    names = [name for name in VALUES if f":{name}" in statement.text]
    async with database.engine.connect() as connection:
        if is_postgresql:
            await connection.execute(text("SET enable_seqscan = off"))  # which an empty table would have
        explain = "EXPLAIN " if is_postgresql else "EXPLAIN QUERY PLAN "
        found: Any = await connection.execute(text(explain + statement.text), {name: VALUES[name] for name in names})
        plan = str(found.all())
    await database.close()

    assert {name for name in indexes if name in plan} == indexes
