"""PostgreSQL's own programs for dumps; the password does not show among the processes."""

import os
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from worker.maintenance.archive import ArchiveError

_DUMP: Final = ("pg_dump", "--format=custom", "--no-owner", "--no-privileges")
_RESTORE: Final = (
    "pg_restore", "--no-owner", "--no-privileges", "--no-comments", "--single-transaction", "--exit-on-error",
)  # fmt: skip
"""Comments are those of extensions, which belong to somebody else where the owner of the database is no superuser."""


def dump(url: str, path: Path) -> None:
    """Write a consistent dump of the database while others use it; raises `ArchiveError`."""
    _run([*_DUMP, f"--file={path}"], url)


def load(url: str, path: Path) -> None:
    """Put a dump into an empty database, whole or not at all; raises `ArchiveError`."""
    _run([*_RESTORE, str(path)], url)


def _run(command: list[str], url: str) -> None:
    parts = urlsplit(url)
    environ = dict(os.environ)  # noqa: TID251  # not our settings, but PATH and those of libpq
    if parts.password:
        environ["PGPASSWORD"] = unquote(parts.password)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@"), scheme="postgresql"))
    try:
        full = [*command, f"--dbname={bare}"]
        done = subprocess.run(full, env=environ, capture_output=True, text=True, check=False)  # noqa: S603  # ours
    except FileNotFoundError as error:
        raise ArchiveError(f"{command[0]} is needed, of the PostgreSQL client's package.") from error
    if done.returncode:
        raise ArchiveError(f"{command[0]}: {done.stderr.strip()}")
