"""Processes of the version before go on working on the schema of the next one, on both databases."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip
from sqlalchemy.exc import DBAPIError, NoResultFound
from structlog.testing import capture_logs

from shared.database import Database, sqlite_path
from shared.migrations import SchemaError, config, migrate, revisions
from shared.migrations.compatibility import find_breaks
from tests.databases import new_postgres_database, prepared_sqlite
from tests.upgrades import NEXT, check_step, revision_of, upgrade, with_revisions_of, write_revision

FIRST: Final = "0016"
"""Later ones run beside the version before."""


@pytest.fixture
def head_url(prepared_url: str) -> str:
    """A database at the last revision, on each engine in turn."""
    if path := sqlite_path(prepared_url):
        path.write_bytes(prepared_sqlite())
    return prepared_url


async def test_every_migration_leaves_the_version_before_at_work(database_url: str, tmp_path: Path) -> None:
    write_revision(tmp_path)
    database, scripts = Database(database_url), with_revisions_of(tmp_path)
    await upgrade(database.engine, scripts, FIRST)
    later = [revision for revision in revisions(scripts) if revision > FIRST]

    for place, revision in enumerate(later):
        await check_step(database.engine, scripts, revision, 10 * place + 10)

    await database.close()
    assert later[-1] == NEXT


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ('op.drop_column("providers", "model_hosting_zone")', "model_hosting_zone"),
        ('op.execute("DELETE FROM usage_records")', "No row was found"),
        ('op.execute("UPDATE jobs SET status = 0")', "jobs"),
        ('op.create_index("one_name", "jobs", ["status"], unique=True)', r"jobs: unique \(status\) is new"),
    ],
)
async def test_a_migration_that_stops_the_version_before_is_found(
    head_url: str, tmp_path: Path, statement: str, why: str
) -> None:
    write_revision(tmp_path, f"    {statement}")
    database, scripts = Database(head_url), with_revisions_of(tmp_path)

    with pytest.raises((DBAPIError, NoResultFound, AssertionError), match=why):
        await check_step(database.engine, scripts, NEXT, 10)

    assert await revision_of(database.engine) == NEXT, "it was the migration that failed"
    await database.close()


def _schema(*more: Any, **columns: Column[Any]) -> MetaData:
    """Return two tables, one of which is changed."""
    schema, kept = MetaData(), {"id": Column(Integer, primary_key=True), "name": Column(Text), "age": Column(Integer)}
    Table("parents", schema, Column("id", Integer, primary_key=True))
    owned = {"parent": Column(Integer, nullable=False), "mark": Column(Text, unique=True)}
    changed = {name: column for name, column in (kept | owned | columns).items() if column is not None}
    Table("things", schema, *(_named(name, column) for name, column in changed.items()), *more)
    return schema


def _named(name: str, column: "Column[Any]") -> "Column[Any]":
    column.name = column.key = name
    return column


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (MetaData, ["parents is gone", "things is gone"]),
        (lambda: _schema(name=None), ["things.name is gone"]),
        (lambda: _schema(title=Column(Text, nullable=False)), ["things.title must be given"]),
        (lambda: _schema(age=Column(Text)), ["things.age has another type"]),
        (lambda: _schema(age=Column(Integer, nullable=False)), ["things.age must be given"]),
        (lambda: _schema(age=Column(Integer, nullable=False, server_default="0")), ["things.age must not be null"]),
        (lambda: _schema(mark=Column(Text)), ["things: unique (mark) is gone"]),
        (lambda: _schema(UniqueConstraint("name", "age")), ["things: unique (age, name) is new"]),
        (lambda: _schema(UniqueConstraint("mark", "age")), []),
        (lambda: _schema(tag=Column(Text, unique=True)), []),
        (lambda: _schema(tag=Column(Text, unique=True, server_default="a")), ["things: unique (tag) is new"]),
        (lambda: _schema(CheckConstraint("age > 0")), ["things: check (age > 0) is new"]),
        (
            lambda: _schema(parent=Column(Integer, ForeignKey("parents.id"), nullable=False)),
            ["things: foreign key (parent) is new"],
        ),
        (lambda: _schema(Index("by_age", "age"), tag=Column(Text), size=Column(Integer, server_default="1")), []),
        (lambda: _with_children(None), ["children keeps rows of parents from being deleted"]),
        (lambda: _with_children("CASCADE"), []),
    ],
)
def test_the_checker_names_what_breaks(after: Any, found: list[str]) -> None:
    assert find_breaks(_schema(), after()) == found


def _with_children(on_delete: str | None) -> MetaData:
    schema = _schema()
    Table("children", schema, Column("parent", Integer, ForeignKey("parents.id", ondelete=on_delete)))
    return schema


async def test_a_schema_of_the_next_version_is_accepted_and_stays(head_url: str, tmp_path: Path) -> None:
    write_revision(tmp_path)
    database = Database(head_url)
    await upgrade(database.engine, with_revisions_of(tmp_path), NEXT)

    with capture_logs() as logs:
        await migrate(database.engine)

    revision = await revision_of(database.engine)
    await database.close()
    assert [(entry["event"], entry["revision"]) for entry in logs] == [("schema_is_newer", NEXT)]
    assert revision == NEXT


async def test_a_schema_without_what_this_version_needs_is_refused(head_url: str, tmp_path: Path) -> None:
    write_revision(tmp_path, '    op.drop_column("providers", "model_hosting_zone")')
    database = Database(head_url)
    await upgrade(database.engine, with_revisions_of(tmp_path), NEXT)

    with pytest.raises(
        SchemaError, match=rf"later version of Sluice \(schema {NEXT}\).* providers.model_hosting_zone is gone"
    ):
        await migrate(database.engine)

    await database.close()


async def test_a_migration_that_waits_for_a_table_keeps_nobody_else_from_it(postgres_url: str, tmp_path: Path) -> None:
    name = f"w{abs(hash(str(tmp_path)))}"
    database = Database(await asyncio.to_thread(new_postgres_database, postgres_url, name))
    await upgrade(database.engine, config(), "0018")

    async with database.engine.connect() as long, asyncio.TaskGroup() as group:
        await long.execute(text("SELECT url FROM providers"))  # as a backup does
        with capture_logs() as logs:
            migrating = group.create_task(migrate(database.engine))
            while not logs:
                async with database.engine.connect() as other, asyncio.timeout(10):
                    await other.execute(text("SELECT url FROM providers"))
                await asyncio.sleep(0.01)
        assert not migrating.done()
        await long.rollback()

    revision = await revision_of(database.engine)
    await database.close()
    assert logs[0]["event"] == "migration_waits"
    assert revision == revisions(config())[-1]
