"""Note when keys were used: at most once a minute each, and never while a request waits for it."""

import asyncio
from typing import Final

import structlog
from sqlalchemy import BigInteger, bindparam, or_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from shared.database import Database
from shared.keys.tables import KeyRow
from shared.tasks import end_tasks, start_background

log = structlog.get_logger()
_USED_MS: Final = bindparam("used_ms", type_=BigInteger)
_PAUSE_S: Final = 1.0
_EVERY_MS: Final = 60_000
_AT_ONCE: Final = 500
_MAX_KNOWN: Final = 100_000
_UPDATE: Final = (
    update(KeyRow)
    .where(
        col(KeyRow.id) == bindparam("key_id"),
        or_(col(KeyRow.last_used_ms).is_(None), col(KeyRow.last_used_ms) <= _USED_MS - _EVERY_MS),
    )
    .values(last_used_ms=_USED_MS)
)
"""The condition holds the minute over all api processes."""


class LastUsed:
    """Collects uses in memory and writes them in the background."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[int, int] = {}
        self._pending: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = start_background(self._repeat())

    async def close(self) -> None:
        """Write what is left and stop."""
        if self._task is not None:
            await end_tasks(self._task)
            await self._write()

    def note(self, key_id: int, used_ms: int) -> None:
        """Say that a key was used."""
        if used_ms - self._known.get(key_id, 0) >= _EVERY_MS:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key_id] = self._pending[key_id] = used_ms

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_S)
            await self._write()

    async def _write(self) -> None:
        pending, self._pending = self._pending, {}
        uses = [{"key_id": key_id, "used_ms": pending[key_id]} for key_id in sorted(pending)]
        try:
            for start in range(0, len(uses), _AT_ONCE):
                async with self._database.transaction() as session:
                    await (await session.connection()).execute(_UPDATE, uses[start : start + _AT_ONCE])
        except (SQLAlchemyError, OSError) as error:  # the next use after a minute will be noted
            log.warning("last_used_not_written", error=repr(error), keys=len(uses))
