"""The form of a backup: one tar file, whose first member tells what it is and whose last one sums it up.

Members: `manifest.json`; the database as `sluice.db` (SQLite) or `database.dump` (PostgreSQL's custom format); the keys
that the installation made itself as `admin_key` and `encryption_key`; local files under `files/`; `SHA256SUMS`.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from msgspec import Struct, json

from shared.unreadable import UNREADABLE

MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"
SQLITE: Final = "sluice.db"
POSTGRES: Final = "database.dump"
FILES: Final = "files"
KEYS: Final = ("admin_key", "encryption_key")
_CHUNK_BYTES: Final = 1 << 20


class ArchiveError(Exception):
    """A backup cannot be made or used; the message says why."""


class Manifest(Struct, kw_only=True):
    """What a backup is."""

    version: int = 1
    """Of this form."""
    revision: str
    """Of the schema."""
    database: str
    """Member with the database: its name tells the engine."""
    created_ms: int
    has_files: bool
    """False: they are in a bucket, which has a backup of its own."""
    sealed: bytes
    """A text that the installation's encryption key opens."""


class ArchiveWriter:
    """Writes an archive; the file has its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise ArchiveError(f"{path} exists already.")
        self._path, self._part = path, path.with_name(path.name + ".part")
        descriptor = os.open(self._part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w|")  # noqa: SIM115  # closed by close()
        self._sums: list[str] = []

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a small member."""
        self._add(name, io.BytesIO(data), len(data))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file as it is now; one that is gone is left out."""
        try:
            file = path.open("rb")
        except FileNotFoundError:  # retention was quicker
            return
        with file:
            self._add(name, file, os.fstat(file.fileno()).st_size)

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        summing = _Summing(file)
        self._tar.addfile(info, summing)
        self._sums.append(f"{summing.hash.hexdigest()}  {name}\n")

    def close(self) -> None:
        """Finish the archive and give it its name."""
        self.add_bytes(SUMS, "".join(self._sums).encode())
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.rename(self._path)

    def discard(self) -> None:
        """Leave nothing."""
        for stream in (self._tar, self._file):  # a tar that is left open writes its end when it is forgotten
            with suppress(OSError):  # of a full disk, which is why it is discarded
                stream.close()
        self._part.unlink(missing_ok=True)


class _Summing:
    """Reads a file and sums it up."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


def extract(path: Path, folder: Path) -> Manifest:
    """Unpack an archive into a folder and check it; raises `ArchiveError` if it is not whole."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            tar.extractall(folder, filter="data")
        manifest = json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        sums = (folder / SUMS).read_text().splitlines()
    except (*UNREADABLE, tarfile.TarError, OSError) as error:
        raise ArchiveError(f"{path} is not a whole backup: {error}.") from error
    for line in sums:
        wanted, _, name = line.partition("  ")
        if not (folder / name).is_file() or _sum(folder / name) != wanted:
            raise ArchiveError(f"{path} is damaged: {name}.")
    return manifest


def _sum(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in _chunks(file):
            found.update(chunk)
    return found.hexdigest()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
