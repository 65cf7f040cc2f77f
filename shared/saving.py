"""Insert or update a row of which there may be only one with the same name."""

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import ConflictError
from shared.revision import raise_revision


async def save_unique(session: AsyncSession, row: Any, same: Any, taken: str) -> None:
    """Insert or update the row and raise the revision.

    Args:
        session: of a transaction.
        row: of any table.
        same: a SELECT of other rows with the same name.
        taken: text of the `ConflictError` if there is one, be it written at the same moment.

    """
    with session.no_autoflush:
        if (await session.exec(same)).first() is not None:
            raise ConflictError(taken)
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:
        raise ConflictError(taken) from error
    await raise_revision(session)
