"""Expand and contract: whether processes of the version before can go on working on a schema that has changed.

A migration runs while they serve.  So it may add: a table, a column that is nullable or has a default of the server,
an index that forbids nothing.  What a table no longer needs is taken away by a later version, once no process is left
that names it; the revision that does so lists in its `contracts` what `find_breaks` says.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import CheckConstraint, Column, Connection, ForeignKeyConstraint, MetaData, Table, UniqueConstraint

_NOT_COMPARED: Final = ("alembic_version", "chunk_index", "request_logs_")
"""Not made by migrations: their own table, the index of chunks, partitions."""
_HARMLESS: Final = ("CASCADE", "SET NULL")


def read_schema(connection: Connection) -> MetaData:
    """Return the tables of a database."""
    schema = MetaData()
    schema.reflect(connection, only=lambda name, _: not name.startswith(_NOT_COMPARED), resolve_fks=False)
    return schema


def find_missing(known: MetaData, present: MetaData) -> list[str]:
    """Return why a process that knows one schema cannot read and write another one; empty if it can."""
    return [one for name in sorted(known.tables) for one in _missing(name, known.tables[name], present)]


def _missing(name: str, known: Table, present: MetaData) -> Iterator[str]:
    there = present.tables.get(name)
    if there is None:
        yield f"{name} is gone"
        return
    yield from (f"{name}.{column.name} is gone" for column in known.columns if column.name not in there.columns)
    for column in there.columns:
        if column.name not in known.columns and _must_be_given(column):
            yield f"{name}.{column.name} must be given"


def _must_be_given(column: "Column[object]") -> bool:
    return not column.nullable and column.server_default is None


def find_breaks(before: MetaData, after: MetaData) -> list[str]:
    """Return what a migration changes that processes of the version before would stumble over, of two schemas read."""
    found = find_missing(before, after)
    for name in sorted(before.tables.keys() & after.tables.keys()):
        old, new = before.tables[name], after.tables[name]
        found += [*_changed_columns(old, new), *_changed_keys(old, new), *_new_conditions(old, new)]
    for name in sorted(after.tables.keys() - before.tables.keys()):
        found += [
            f"{name} keeps rows of {key.referred_table.name} from being deleted"
            for key in after.tables[name].foreign_key_constraints
            if key.ondelete not in _HARMLESS and key.referred_table.name in before.tables
        ]
    return found


def _changed_columns(old: Table, new: Table) -> Iterator[str]:
    for column in old.columns:
        after = new.columns.get(column.name)
        if after is None:
            continue
        if repr(after.type) != repr(column.type):  # also a wider one: PostgreSQL refuses statements prepared before
            yield f"{old.name}.{column.name} has another type"
        if _must_be_given(after) and not _must_be_given(column):
            yield f"{old.name}.{column.name} must be given"
        elif column.nullable and not after.nullable:
            yield f"{old.name}.{column.name} must not be null"


def _changed_keys(old: Table, new: Table) -> Iterator[str]:
    before, after = _unique_keys(old), _unique_keys(new)
    for key in sorted(before - after, key=sorted):  # upserts may name it
        yield f"{old.name}: unique ({', '.join(sorted(key))}) is gone"
    for key in sorted(after - before, key=sorted):
        added = [new.columns[name] for name in key if name in new.columns and name not in old.columns]
        is_void = any(column.nullable and column.server_default is None for column in added)  # null equals nothing
        if not is_void and not any(known <= key for known in before):
            yield f"{old.name}: unique ({', '.join(sorted(key))}) is new"


def _unique_keys(table: Table) -> set[frozenset[str]]:
    """Return the columns of every unique key; that of some rows only has its condition as one more member."""
    keys = {frozenset(table.primary_key.columns.keys())}
    keys |= {frozenset(one.columns.keys()) for one in table.constraints if isinstance(one, UniqueConstraint)}
    for index in table.indexes:
        if index.unique:
            conditions = {f"where {value}" for name, value in index.dialect_kwargs.items() if name.endswith("_where")}
            keys.add(frozenset(index.columns.keys()) | (conditions - {"where None"}))
    return keys


def _new_conditions(old: Table, new: Table) -> Iterator[str]:
    checks = {str(one.sqltext) for one in old.constraints if isinstance(one, CheckConstraint)}
    for one in new.constraints:
        if isinstance(one, CheckConstraint) and str(one.sqltext) not in checks:
            yield f"{old.name}: check ({one.sqltext}) is new"
    references = {_columns_of(one) for one in old.foreign_key_constraints}
    for key in new.foreign_key_constraints:
        if _columns_of(key) not in references and any(name in old.columns for name in key.column_keys):
            yield f"{old.name}: foreign key ({', '.join(key.column_keys)}) is new"


def _columns_of(key: ForeignKeyConstraint) -> tuple[str, ...]:
    return tuple(key.column_keys)
