"""The migrations make exactly the tables of the code, on both databases."""

from typing import Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlmodel import select

from shared.database import Database
from shared.migrations import config, migrate
from shared.roles.tables import LimitRow
from shared.tables import METADATA

ROUTER = """
INSERT INTO routers (id, name, created_ms, updated_ms, user_id, type, load_balancing_strategy, price_prompt,
    price_completion) VALUES {names}, 0, 'text-generation', 'shuffle', '0', '0')
"""
LEFT_FOR_LATER: Final[frozenset[tuple[str, str]]] = frozenset()
"""Table and column of what this version no longer names, and a later one takes away."""


async def test_the_migrated_schema_is_that_of_the_tables(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database.engine)

    async with database.engine.connect() as connection:
        differences = await connection.run_sync(_compare)

    await database.close()
    assert differences == []


def _compare(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": False, "include_name": _is_ours})
    differences = [one for one in compare_metadata(context, METADATA) if not (_is_foreign_key(one) or _is_left(one))]
    if connection.dialect.name == "postgresql":  # where each partition has its own
        return [found for found in differences if found[1].name != "ix_request_logs_job"]
    return differences


def _is_ours(name: str | None, *_: Any) -> bool:
    """Leave out the index of the chunks, which differs between the databases, and partitions."""
    return not (name or "").startswith(("chunk_index", "request_logs_"))


def _is_left(difference: Any) -> bool:
    return difference[0] == "remove_column" and (difference[2], difference[3].name) in LEFT_FOR_LATER


def _is_foreign_key(difference: Any) -> bool:
    """Alembic cannot compare `ON DELETE` of SQLite."""
    return isinstance(difference, tuple) and difference[0] in ("add_fk", "remove_fk")


async def test_what_everybody_could_use_stays_granted(database_url: str) -> None:
    database = Database(database_url)
    async with database.engine.connect() as connection:
        await connection.run_sync(_upgrade, "0001")
        await connection.commit()
    async with database.transaction() as session:
        for number in (1, 2):
            names = f"({number}, 'r{number}', 0, 0"
            await session.exec(
                text(f"INSERT INTO roles (id, name, created_ms, updated_ms, permissions) VALUES {names}, '[]')")
            )
            await session.exec(text(ROUTER.format(names=names)))

    await migrate(database.engine)

    async with database.read() as session:
        limits = [
            (row.role_id, row.router_id, row.type, row.value) for row in (await session.exec(select(LimitRow))).all()
        ]
    await database.close()
    assert sorted(limits) == [(role, router, "rpm", None) for role in (1, 2) for router in (1, 2)]


def _upgrade(connection: Connection, revision: str) -> None:
    scripts = config()
    scripts.attributes["connection"] = connection
    command.upgrade(scripts, revision)


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database.engine)
    await migrate(database.engine)

    async with database.engine.connect() as connection:
        revision = await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())

    await database.close()
    assert revision == "0025"
