"""`scripts/sluice backup`: one archive of an installation, while it serves.

The database is copied first, as of one moment, and the files afterwards: every file that a row names is in the archive,
unless retention removed it in between.  Redis is left out: the queue is made anew from the database.
"""

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from alembic.runtime.migration import MigrationContext
from msgspec import json
from sqlalchemy import Connection

from shared.clock import now_ms
from shared.database import Database, sqlite_path
from shared.installation import require_keys, secret_box
from shared.sealed import check_secrets
from shared.settings import Settings
from worker.maintenance.archive import FILES, KEYS, MANIFEST, POSTGRES, SQLITE, ArchiveError, ArchiveWriter, Manifest
from worker.maintenance.postgres import dump

_CHECK: Final = "sluice"
"""What `Manifest.sealed` says."""


def backup(settings: Settings, archive: Path) -> str:
    """Write the archive and return what to tell; raises `ArchiveError` and `SettingsError`."""
    url = settings.effective_database_url()
    path, folder = sqlite_path(url), files_folder(settings)
    if path is not None and not path.exists():
        raise ArchiveError(f"There is no database at {path}.")
    require_keys(settings, "encryption_key")
    manifest = Manifest(
        revision=asyncio.run(_revision(settings)), database=POSTGRES if path is None else SQLITE, created_ms=now_ms(),
        has_files=folder is not None, sealed=secret_box(settings).seal(_CHECK),
    )  # fmt: skip
    writer = ArchiveWriter(archive)
    try:
        writer.add_bytes(MANIFEST, json.encode(manifest))
        with tempfile.TemporaryDirectory(dir=archive.absolute().parent) as temporary:
            copy = Path(temporary) / manifest.database
            _copy_sqlite(path, copy) if path is not None else dump(url, copy)
            writer.add_file(manifest.database, copy)
        for name in KEYS:
            writer.add_file(name, settings.data_path / name)
        if folder is not None:
            for file in sorted(one for one in folder.rglob("*") if one.is_file()):
                writer.add_file(f"{FILES}/{file.relative_to(folder)}", file)
        writer.close()
    except BaseException:
        writer.discard()
        raise
    where = "" if manifest.has_files else " Files are in their bucket, which has to be copied by itself."
    return f"{archive}: {archive.stat().st_size:,} bytes, schema {manifest.revision}.{where}"


def files_folder(settings: Settings) -> Path | None:
    """Return the folder of the files; None if they are in a bucket."""
    url = settings.file_store_url
    if url is None:
        return settings.data_path / "files"
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else None


async def _revision(settings: Settings) -> str:
    """Return the revision of the schema, once it is sure that the secrets beside it can be read again."""
    database = Database(settings.effective_database_url())
    try:
        async with database.engine.connect() as connection:
            found = await connection.run_sync(revision_of)
        if found is None:
            raise ArchiveError("The database is empty.")
        await check_secrets(database, secret_box(settings))
    finally:
        await database.close()
    return found


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the schema; None if there is none."""
    return MigrationContext.configure(connection).get_current_revision()


def _copy_sqlite(path: Path, copy: Path) -> None:
    """Copy the database as of now; writers go on meanwhile."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
