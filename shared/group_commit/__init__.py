"""Group commit: many callers, one writer, one fsync for all of the moment."""

from shared.database import postgres_dsn, sqlite_path
from shared.group_commit.postgres import PostgresStore
from shared.group_commit.sqlite import SqliteStore
from shared.group_commit.units import Store
from shared.group_commit.writer import GroupCommit


def open_writer(database_url: str) -> GroupCommit:
    """Return the writer of a process that has nobody to send away; it connects with the first unit."""
    return GroupCommit(_open_store(database_url, {}))


def open_impatient_writer(database_url: str, *, patience_s: float) -> GroupCommit:
    """Return the writer of a process whose callers rather hear no than wait."""
    return GroupCommit(_open_store(database_url, {"lock_wait_s": patience_s}), patience_s=patience_s)


def _open_store(database_url: str, options: dict[str, float]) -> Store:
    path = sqlite_path(database_url)
    return PostgresStore(postgres_dsn(database_url)) if path is None else SqliteStore(path, **options)
