"""Schema changes, which run on SQLite and PostgreSQL beside processes of the version before.

`migrate` brings a database up to date; `compatibility` says what a migration may change.
"""

import asyncio
from pathlib import Path
from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.migrations.compatibility import find_missing, read_schema
from shared.retrieval.postgres_schema import ensure_chunk_index
from shared.tables import METADATA

log = structlog.get_logger()
_LOCK = 5_171_210_437
"""Key of the advisory lock: several processes may migrate one PostgreSQL at the same time."""
_WAIT: Final = "SET LOCAL lock_timeout = '300ms'"
"""Whoever comes after a migration that waits for a table waits, too; shorter than the server looks for deadlocks."""
_IS_LOCKED: Final = "55P03"
_TRIES: Final = 60
_PAUSE_S: Final = 0.5


class SchemaError(Exception):
    """The database is of a later version of Sluice, which this one cannot work with; the message says why."""


def config() -> Config:
    """Return where the migrations are."""
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent))
    return found


def revisions(scripts: Config) -> list[str]:
    """Return all revisions that are known, the first one first."""
    return [script.revision for script in ScriptDirectory.from_config(scripts).walk_revisions()][::-1]


async def migrate(engine: AsyncEngine) -> None:
    """Apply all migrations that are missing, while others read and write.

    A schema that is newer than this code stays as it is; raises `SchemaError` if this code cannot work on it.
    """
    writer = engine.execution_options(writes=True)
    for left in reversed(range(_TRIES)):
        try:
            async with writer.connect() as connection:
                await connection.run_sync(_migrate)
                await connection.commit()
        except DBAPIError as error:
            if not left or getattr(error.orig, "sqlstate", None) != _IS_LOCKED:
                raise
            log.info("migration_waits", reason=str(error.orig))
            await asyncio.sleep(_PAUSE_S)
        else:
            return


def _migrate(connection: Connection) -> None:
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        connection.exec_driver_sql(_WAIT)
    scripts = config()
    known = revisions(scripts)
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known:
        _check_newer(connection, present)
        return
    if present != known[-1]:
        scripts.attributes["connection"] = connection
        command.upgrade(scripts, "head")
    if is_postgres:
        ensure_chunk_index(connection)


def _check_newer(connection: Connection, revision: str) -> None:
    """Accept a schema of a later version as long as all that this one reads and writes is there."""
    missing = find_missing(METADATA, read_schema(connection))
    if missing:
        raise SchemaError(
            f"The database is of a later version of Sluice (schema {revision}), which this one cannot work with: "
            f"{', '.join(missing)}."
        )
    log.warning("schema_is_newer", revision=revision)
