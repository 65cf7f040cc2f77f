"""Schema changes, which run on SQLite and PostgreSQL; `migrate` brings a database up to date."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.retrieval.postgres_schema import ensure_chunk_index

_LOCK = 5_171_210_437
"""Key of the advisory lock: several processes may migrate one PostgreSQL at the same time."""


def config() -> Config:
    """Return where the migrations are."""
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent))
    return found


async def migrate(engine: AsyncEngine) -> None:
    """Apply all migrations that are missing."""
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    scripts = config()
    if MigrationContext.configure(connection).get_current_heads() != tuple(
        ScriptDirectory.from_config(scripts).get_heads()
    ):
        scripts.attributes["connection"] = connection
        command.upgrade(scripts, "head")
    if connection.dialect.name == "postgresql":
        ensure_chunk_index(connection)
