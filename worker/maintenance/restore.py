"""`scripts/sluice restore`: put an archive into an empty installation.

Jobs that had not ended when the backup was made are in the queue again once workers run, also those that ended later:
they run a second time.
"""

import shutil
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag

from shared.database import Database, sqlite_path
from shared.installation import secret_box
from shared.migrations import config, migrate, revisions
from shared.settings import Settings
from worker.maintenance.archive import FILES, KEYS, POSTGRES, SQLITE, ArchiveError, Manifest, extract
from worker.maintenance.backup import files_folder, revision_of
from worker.maintenance.postgres import load
from worker.supervisor import StartError, lock_data_folder


async def restore(settings: Settings, archive: Path) -> str:
    """Restore and migrate; returns what to tell.  Raises `ArchiveError`, and has changed nothing then."""
    try:
        lock = lock_data_folder(settings)
    except StartError as error:
        raise ArchiveError(str(error)) from error
    with lock, tempfile.TemporaryDirectory(dir=settings.data_path) as temporary:
        unpacked = Path(temporary)
        manifest = extract(archive, unpacked)
        url, path = settings.effective_database_url(), sqlite_path(settings.effective_database_url())
        _check(manifest, POSTGRES if path is None else SQLITE)
        await _check_empty(settings, manifest)
        _check_key(settings, manifest, unpacked)
        if path is None:
            load(url, unpacked / POSTGRES)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(unpacked / SQLITE, path)
        for name in KEYS:
            if (unpacked / name).exists():
                shutil.move(unpacked / name, settings.data_path / name)
        folder = files_folder(settings)
        if folder is not None and (unpacked / FILES).exists():
            shutil.copytree(unpacked / FILES, folder, dirs_exist_ok=True)
        database = Database(url)
        try:
            await migrate(database.engine)
        finally:
            await database.close()
    return f"Restored {archive}, schema {manifest.revision}."


def _check(manifest: Manifest, database: str) -> None:
    if manifest.version != 1:
        raise ArchiveError(f"The backup has form {manifest.version}; this version of Sluice reads form 1.")
    if manifest.database != database:
        raise ArchiveError("The backup is of the other database engine: set SLUICE_DATABASE_URL accordingly.")
    if manifest.revision not in revisions(config()):
        raise ArchiveError(f"The backup is of a later version of Sluice (schema {manifest.revision}).")


async def _check_empty(settings: Settings, manifest: Manifest) -> None:
    """Raise `ArchiveError` unless nothing would be overwritten."""
    url = settings.effective_database_url()
    path = sqlite_path(url)
    if path is not None and path.exists():
        raise ArchiveError(f"{path} exists already: restore into an empty SLUICE_DATA_DIR.")
    if path is None:
        database = Database(url)
        try:
            async with database.engine.connect() as connection:
                if await connection.run_sync(revision_of) is not None:
                    raise ArchiveError("The database is not empty.")
        finally:
            await database.close()
    folder = files_folder(settings)
    if manifest.has_files and folder is not None and folder.exists() and any(folder.iterdir()):
        raise ArchiveError(f"{folder} is not empty.")


def _check_key(settings: Settings, manifest: Manifest, unpacked: Path) -> None:
    """Raise `ArchiveError` unless the secrets of the backup can be decrypted."""
    if settings.encryption_key is None and not (unpacked / KEYS[1]).exists():
        raise ArchiveError("SLUICE_ENCRYPTION_KEY was set when the backup was made, and is needed.")
    kept = unpacked if settings.encryption_key is None else settings.data_path
    try:
        secret_box(settings, kept).open(manifest.sealed)
    except InvalidTag as error:
        raise ArchiveError("SLUICE_ENCRYPTION_KEY is not the one of the backup.") from error
