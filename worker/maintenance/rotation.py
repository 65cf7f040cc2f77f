"""`scripts/sluice rotate-key`: encrypt every stored secret with the present encryption key.

With `SLUICE_ENCRYPTION_KEY`, processes may run: first all get the new key as a previous one, so that they can read what
others write with it; then it becomes the present key and the old one a previous one; then this runs; then the old one
goes.  A key that the installation made itself is made anew, while nothing runs.
"""

import os
import secrets
from contextlib import ExitStack
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from sqlalchemy import CursorResult, select, update

from shared.database import Database
from shared.installation import encryption_key_file, secret_box
from shared.sealed import SEALED
from shared.secrets import SecretBox
from shared.settings import Settings
from worker.maintenance.archive import ArchiveError
from worker.supervisor import StartError, lock_data_folder

_AT_ONCE: Final = 200


async def rotate_key(settings: Settings) -> int:
    """Return how many secrets were encrypted anew; safe to repeat.  Raises `ArchiveError`."""
    with ExitStack() as stack:
        if settings.encryption_key is None:
            try:
                stack.enter_context(lock_data_folder(settings))
            except StartError as error:
                raise ArchiveError(f"{error} The key in its data folder is made anew while nothing runs.") from error
            _prepend_key(settings)
        count = await _encrypt_all(settings, secret_box(settings))
        if settings.encryption_key is None:
            _write_keys(settings, _read_keys(settings)[:1])
    return count


async def _encrypt_all(settings: Settings, box: SecretBox) -> int:
    database, count = Database(settings.effective_database_url()), 0
    try:
        for table, name in SEALED:
            count += await _encrypt_column(database, box, table, name)
    finally:
        await database.close()
    return count


async def _encrypt_column(database: Database, box: SecretBox, table: Any, name: str) -> int:
    columns = table.__table__.c
    key, column = next(iter(table.__table__.primary_key)), columns[name]
    count, last = 0, None
    while True:
        wanted = select(key, column).where(column.is_not(None)).order_by(key).limit(_AT_ONCE)
        async with database.transaction() as session:
            connection = await session.connection()
            rows = (await connection.execute(wanted if last is None else wanted.where(key > last))).all()
            for identity, sealed in rows:
                anew = box.seal(_open(box, sealed, f"{table.__tablename__} {identity}"))
                changed: CursorResult[Any] = await connection.execute(
                    update(table).where(key == identity, column == sealed).values({name: anew})
                )
                count += changed.rowcount
        if len(rows) < _AT_ONCE:
            return count
        last = rows[-1][0]


def _open(box: SecretBox, sealed: bytes, name: str) -> str:
    try:
        return box.open(sealed)
    except InvalidTag as error:
        raise ArchiveError(
            f"{name} is encrypted with another key: SLUICE_PREVIOUS_ENCRYPTION_KEYS must have it."
            " What was encrypted anew so far may stay so; begin again."
        ) from error


def _read_keys(settings: Settings) -> list[str]:
    return encryption_key_file(settings).read_text().split()


def _prepend_key(settings: Settings) -> None:
    """Make a new key the first; after a crash, the file has more than one, and both are known."""
    secret_box(settings)
    _write_keys(settings, [secrets.token_urlsafe(32), *_read_keys(settings)])


def _write_keys(settings: Settings, keys: list[str]) -> None:
    path = encryption_key_file(settings)
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(keys) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
