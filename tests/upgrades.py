"""A process of the version before on a schema that has changed: it writes, changes and reads all that it knows."""

import os
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.migrations import config, revisions
from shared.migrations.compatibility import find_breaks, read_schema

NEXT: Final = "9001"
ADDITIONS: Final = """
    for table in ("jobs", "usage_records", "request_logs", "providers", "keys", "job_results"):
        op.add_column(table, sa.Column("added", sa.Text(), nullable=True))
    op.add_column("charges", sa.Column("added", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_jobs_added", "jobs", ["added"], unique=True)
    owner = sa.Column("job_id", sa.Text(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    op.create_table("additions", owner, sa.Column("note", sa.Text(), nullable=False))
"""
"""What a next version may do."""
_REVISION: Final = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{revision}", "{before}"


def upgrade():
{statements}
"""


def write_revision(folder: Path, statements: str = ADDITIONS) -> None:
    """Write a migration that follows the last one."""
    source = _REVISION.format(revision=NEXT, before=revisions(config())[-1], statements=statements)
    (folder / f"v{NEXT}_next.py").write_text(source)


def with_revisions_of(folder: Path) -> Config:
    """Return where all migrations are: those there are, and those of the folder."""
    scripts = config()
    own = Path(scripts.get_main_option("script_location") or "") / "versions"
    scripts.set_main_option("path_separator", "os")
    scripts.set_main_option("version_locations", f"{own}{os.pathsep}{folder}")
    return scripts


async def upgrade(engine: AsyncEngine, scripts: Config, revision: str) -> None:
    """Apply migrations up to this one."""

    def run(connection: Connection) -> None:
        scripts.attributes["connection"] = connection
        command.upgrade(scripts, revision)

    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()


async def revision_of(engine: AsyncEngine) -> str | None:
    """Return the revision of the database."""
    async with engine.connect() as connection:
        return await connection.run_sync(lambda one: MigrationContext.configure(one).get_current_revision())


async def check_step(engine: AsyncEngine, scripts: Config, revision: str, number: int) -> None:
    """Apply one migration; fails if a process of the version before, on its connection, cannot go on.

    Args:
        engine: a database at the revision before.
        scripts: where the migrations are.
        revision: the one to apply.
        number: of the first of two rows that are written into every table.

    """
    async with engine.connect() as old:
        before = await _read(old)
        await _work(old, before, number)

        await upgrade(engine, scripts, revision)

        after = await _read(old)
        await _check(old, before, number)  # what it wrote is still there
        await _work(old, before, number)
        await _work(old, before, number + 1)
    script, breaks = ScriptDirectory.from_config(scripts).get_revision(revision), find_breaks(before, after)
    assert breaks == list(getattr(script.module, "contracts", ())), f"{revision}: {breaks}"


async def _read(connection: AsyncConnection) -> MetaData:
    schema = await connection.run_sync(read_schema)
    await connection.commit()
    return schema


async def _work(connection: AsyncConnection, schema: MetaData, number: int) -> None:
    """Write this row into every table if it is not there, change it, and read it."""
    for table in schema.sorted_tables:
        row, key = _row(table, number), _key(table, number)
        if (await connection.execute(select(table).where(*key))).first() is None:
            await connection.execute(table.insert(), row)
        changed = await connection.execute(table.update().where(*key).values(row))
        assert changed.rowcount == 1
    await connection.commit()
    await _check(connection, schema, number)


async def _check(connection: AsyncConnection, schema: MetaData, number: int) -> None:
    for table in schema.sorted_tables:
        found = (await connection.execute(select(table).where(*_key(table, number)))).mappings().one()
        assert dict(found) == _row(table, number), table.name
    await connection.commit()


def _key(table: Table, number: int) -> list[Any]:
    return [column == _value(column, number) for column in table.primary_key.columns]


def _row(table: Table, number: int) -> dict[str, Any]:
    return {column.name: _value(column, number) for column in table.columns}


def _value(column: Any, number: int) -> Any:
    """Return a value that differs from those of other rows, and is equal for a reference and what it names."""
    kind = column.type.python_type
    if kind is str:
        return f"{number:026d}"
    return str(number).encode() if kind is bytes else kind(number)
