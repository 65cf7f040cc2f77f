"""The migrations make exactly the tables of the code, on both databases."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from shared.database import Database
from shared.migrations import migrate
from shared.tables import METADATA


async def test_the_migrated_schema_is_that_of_the_tables(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database.engine)

    async with database.engine.connect() as connection:
        differences = await connection.run_sync(_compare)

    await database.close()
    assert differences == []


def _compare(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": False})
    return [difference for difference in compare_metadata(context, METADATA) if not _is_foreign_key(difference)]


def _is_foreign_key(difference: Any) -> bool:
    """Alembic cannot compare `ON DELETE` of SQLite."""
    return isinstance(difference, tuple) and difference[0] in ("add_fk", "remove_fk")


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database.engine)
    await migrate(database.engine)

    async with database.engine.connect() as connection:
        revision = await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())

    await database.close()
    assert revision == "0002"
