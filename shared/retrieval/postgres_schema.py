"""The table of chunks' words and vectors on PostgreSQL, which needs pgvector; it is made once that can be had.

An installation without it does everything else: collections answer `feature_not_enabled`, the log tells the remedy.
"""

from typing import Final

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

log = structlog.get_logger()
_EXISTS: Final = "SELECT to_regclass('chunk_index') IS NOT NULL"
_EXTENSION: Final = "CREATE EXTENSION IF NOT EXISTS vector"
_IS_NEW_ENOUGH: Final = """
    SELECT CAST(string_to_array(extversion, '.') AS int[]) >= ARRAY[0, 8] FROM pg_extension WHERE extname = 'vector'
"""
_TABLE: Final = (
    """
    CREATE TABLE chunk_index (
        chunk_id INTEGER PRIMARY KEY REFERENCES chunks (id) ON DELETE CASCADE,
        collection_id INTEGER NOT NULL,
        dimensions INTEGER,
        lexemes TSVECTOR NOT NULL,
        vector VECTOR
    )
    """,
    "CREATE INDEX chunk_index_by_collection ON chunk_index (collection_id)",
    "CREATE INDEX chunk_index_by_lexeme ON chunk_index USING gin (lexemes)",
)
_NOT_TO_BE_HAD: Final = frozenset({"0A000", "58P01", "42501"})
"""States of SQL: the server does not have the extension, or the role may not create it."""


def ensure_chunk_index(connection: Connection) -> None:
    """Make the table if it is missing and pgvector is there; without it, say so in the log."""
    if connection.exec_driver_sql(_EXISTS).scalar_one():
        return
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(_EXTENSION)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _NOT_TO_BE_HAD:
            raise
        _warn(str(error.orig))
        return
    if not connection.exec_driver_sql(_IS_NEW_ENOUGH).scalar_one():
        _warn("the extension is older than 0.8")
        return
    for statement in _TABLE:
        connection.exec_driver_sql(statement)


def _warn(reason: str) -> None:
    log.warning(
        "collections_are_off", reason=reason,
        remedy="Install pgvector 0.8 or later on the server of PostgreSQL, have a superuser run "
        "`CREATE EXTENSION vector` in this database, and run `scripts/sluice migrate` (or `scripts/run`) again.",
    )  # fmt: skip
