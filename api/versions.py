"""The versions of jobs, for callers who poll: those who ask at the same moment share one query.

There is no timer: while one query is under way, the next one fills.
"""

import asyncio
from typing import Any, Final

from msgspec import Struct, json
from sqlalchemy import text

from shared.database import Database

_MOST: Final = 500
_COLUMNS: Final = "SELECT id, user_id, version, status, created_ms, result_expires_ms, removed_ms FROM jobs WHERE id"
_SQLITE: Final = text(_COLUMNS + " IN (SELECT value FROM json_each(:ids))")  # noqa: S608  # constants
_POSTGRES: Final = text(_COLUMNS + " IN (SELECT json_array_elements_text(CAST(:ids AS json)))")


class JobVersion(Struct, frozen=True):
    """What decides whether a caller knows a job already; fields are named as its columns."""

    id: str
    user_id: int
    version: int
    status: str
    created_ms: int
    result_expires_ms: int | None
    removed_ms: int | None


class Versions:
    """Reads versions; one per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statement = _SQLITE if database.engine.dialect.name == "sqlite" else _POSTGRES
        self._waiting: dict[str, asyncio.Future[JobVersion | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def get(self, job_id: str) -> JobVersion | None:
        """Return the version of a job, given by its bare id; None if there is no such job."""
        loop = asyncio.get_running_loop()
        found = self._waiting.get(job_id)
        if found is None:
            found = self._waiting[job_id] = loop.create_future()
        if self._reader is None:
            self._reader = loop.create_task(self._read_all())
        return await asyncio.shield(found)

    async def close(self) -> None:
        """Wait until nothing is under way."""
        if self._reader is not None:
            await asyncio.wait({self._reader})

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                ids = list(self._waiting)[:_MOST]
                await self._read({job_id: self._waiting.pop(job_id) for job_id in ids})
        finally:
            self._reader = None

    async def _read(self, asked: dict[str, "asyncio.Future[JobVersion | None]"]) -> None:
        found: dict[str, Any] = {}
        try:
            async with self._database.engine.connect() as connection:
                rows = await connection.execute(self._statement, {"ids": json.encode(list(asked)).decode()})
                found = {row[0]: JobVersion(*row) for row in rows}
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must learn of it
            for future in asked.values():
                future.set_exception(error)
                future.exception()  # a caller who has gone does not ask
            return
        for job_id, future in asked.items():
            future.set_result(found.get(job_id))
