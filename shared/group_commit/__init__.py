"""Group commit: many callers, one writer, one fsync for all of the moment."""

from shared.database import postgres_dsn, sqlite_path
from shared.group_commit.postgres import PostgresStore
from shared.group_commit.sqlite import SqliteStore
from shared.group_commit.writer import GroupCommit


def open_writer(database_url: str) -> GroupCommit:
    """Return the writer of this process; it connects with the first unit."""
    path = sqlite_path(database_url)
    return GroupCommit(PostgresStore(postgres_dsn(database_url)) if path is None else SqliteStore(path))
