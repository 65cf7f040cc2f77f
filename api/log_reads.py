"""Reads of the request log and of usage reports: from `SLUICE_LOG_DATABASE_URL`, a replica that may lag behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from shared.database import is_away, sqlstate_of
from shared.request_logs.errors import LogsUnavailableError

log = structlog.get_logger()
_CONNECTED_WITHIN_S: Final = 5.0
"""A replica that hangs takes no more of a caller's time than one that is slow to connect."""
_CANCELLED_BY_RECOVERY: Final = "40001"
"""A replica breaks off a read that would keep it from following the database any longer."""


@asynccontextmanager
async def reading_logs(call: Call) -> AsyncIterator[AsyncSession]:
    """Yield a session that writes nothing; raises `LogsUnavailableError` if the database cannot serve it."""
    try:
        async with call.state.logs.read() as session:
            async with asyncio.timeout(_CONNECTED_WITHIN_S):
                await session.connection()
            yield session
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        if not is_away(error) and sqlstate_of(error) != _CANCELLED_BY_RECOVERY:
            raise
        log.warning("logs_away", error=repr(error), path=call.request.path, request_id=call.request_id)
        raise LogsUnavailableError from error
