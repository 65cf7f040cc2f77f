"""Large inputs of jobs, and the files that callers upload, in a local folder or an S3-compatible store.

    jobs/<id>      the one file of a job; it lives exactly as long as the job's request
    uploads/<id>   a file of /v1/files

A file is named by an id that Sluice made.  So whoever removes a job knows its file without looking anything up, and no
request can name the file of somebody else.  It is written before its job or row is, hence a process that dies in
between leaves an orphan; `worker.file_sweep` removes those.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import structlog
from msgspec import Struct
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from shared.jobs.schemas import KINDS_WITH_FILES
from shared.settings import Settings, SettingsError

log = structlog.get_logger()
JOBS: Final = "jobs/"
UPLOADS: Final = "uploads/"
_PAGE: Final = 500
_CHUNK_BYTES: Final = 256 * 1024
_FAILURES: Final = (BaseError, OSError)


class FileStoreError(Exception):
    """The store cannot be reached, or is full."""


class FileGoneError(Exception):
    """There is no such file."""


class StoredFile(Struct, frozen=True):
    """A file on its way out of the store; its chunks come once, and raise `FileStoreError`."""

    size_bytes: int
    chunks: AsyncIterator[bytes]


class FileStore:
    """The files of one kind; opened once per process.  Store is what obstore calls one: a folder, a bucket."""

    def __init__(self, store: Any, prefix: str, folder: Path | None = None) -> None:
        self._store = store
        self._prefix = prefix
        self._folder = folder
        """Of a local store: its files are synced, so that an accepted job has its file even after a loss of power."""

    async def write(self, file_id: str, chunks: AsyncIterator[bytes]) -> None:
        """Store what comes, without keeping it in memory; if that fails, nothing is left.

        What `chunks` raises is passed on as it is.  Raises `FileStoreError`.
        """
        caught: list[BaseException] = []

        async def guarded() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except BaseException as error:
                caught.append(error)
                raise

        try:
            await self._store.put_async(self._prefix + file_id, guarded())
            await self._sync(file_id)
        except _FAILURES as error:
            if caught:
                raise caught[0] from None
            raise FileStoreError(str(error)) from error

    async def put(self, file_id: str, data: bytes) -> None:
        """Store a file as a whole; raises `FileStoreError`."""
        try:
            await self._store.put_async(self._prefix + file_id, data)
            await self._sync(file_id)
        except _FAILURES as error:
            raise FileStoreError(str(error)) from error

    async def _sync(self, file_id: str) -> None:
        if self._folder is not None:
            path = self._folder / self._prefix / file_id
            await asyncio.to_thread(_sync_paths, path, path.parent)

    async def open(self, file_id: str, start: int = 0, end: int | None = None) -> StoredFile:
        """Return a file, or its bytes from `start` to before `end`, to be read once.

        Raises `FileGoneError` and `FileStoreError`.
        """
        span = {"offset": start} if end is None else (start, end)
        try:
            found = await self._store.get_async(self._prefix + file_id, options={"range": span} if start or end else {})
        except FileNotFoundError as error:
            raise FileGoneError(file_id) from error
        except _FAILURES as error:
            raise FileStoreError(str(error)) from error
        return StoredFile(size_bytes=found.meta["size"], chunks=_chunks_of(found))

    async def read(self, file_id: str) -> bytes:
        """Return a file as a whole; raises `FileGoneError` and `FileStoreError`."""
        return b"".join([chunk async for chunk in (await self.open(file_id)).chunks])

    async def copy(self, file_id: str, new_id: str) -> None:
        """Make a copy under another id; raises `FileGoneError` and `FileStoreError`."""
        try:
            await self._store.copy_async(self._prefix + file_id, self._prefix + new_id)
            await self._sync(new_id)
        except FileNotFoundError as error:
            raise FileGoneError(file_id) from error
        except _FAILURES as error:
            raise FileStoreError(str(error)) from error

    async def delete(self, file_ids: Iterable[str]) -> None:
        """Remove files, if they are there; what cannot be removed now is left to the sweep."""
        for file_id in file_ids:
            try:
                await self._store.delete_async(self._prefix + file_id)
            except FileNotFoundError:
                continue
            except _FAILURES as error:
                log.warning("file_not_removed", file_id=file_id, error=repr(error))

    async def delete_with_jobs(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Remove the files of jobs, given as (id, kind)."""
        await self.delete(job_id for job_id, kind in jobs if kind in KINDS_WITH_FILES)

    async def older_than(self, instant: datetime) -> AsyncIterator[list[str]]:
        """Yield the ids of files that were written before, page by page; raises `FileStoreError`."""
        try:
            async for page in self._store.list(self._prefix, chunk_size=_PAGE):
                yield [file["path"].removeprefix(self._prefix) for file in page if file["last_modified"] < instant]
        except _FAILURES as error:
            raise FileStoreError(str(error)) from error


async def _chunks_of(found: Any) -> AsyncIterator[bytes]:
    try:
        async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(chunk)
    except _FAILURES as error:
        raise FileStoreError(str(error)) from error


def _sync_paths(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_file_store(settings: Settings, prefix: str = JOBS) -> FileStore:
    """Return the files of one kind; credentials of a remote one come from obstore's own environment.

    Raises `SettingsError` if `file_store_url` cannot be used.
    """
    url = settings.file_store_url
    folder = settings.data_path / "files" if url is None else None
    if url is not None and url.startswith("file://"):
        folder = Path(unquote(urlsplit(url).path))
    try:
        if folder is not None:
            return FileStore(LocalStore(folder, mkdir=True), prefix, folder)
        return FileStore(from_url(url or ""), prefix)
    except _FAILURES as error:
        reason = str(error).partition("\n")[0]
        raise SettingsError(f"SLUICE_FILE_STORE_URL: {reason}.") from error
