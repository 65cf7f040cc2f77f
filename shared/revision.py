"""Table `revisions`: a counter that every change of keys, users, routers and providers raises.

Processes keep these rows in memory and look at the counter twice a second: a change is effective everywhere within a
second, and no message has to arrive for it.
"""

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import Field, SQLModel, update
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.columns import bigint


class RevisionRow(SQLModel, table=True):
    """One row, number 1."""

    __tablename__ = "revisions"

    id: int = Field(primary_key=True)
    number: int = bigint(default=0)


_GET: Final = text("SELECT number FROM revisions")


async def raise_revision(session: AsyncSession) -> None:
    """Say in this transaction that something which processes keep in memory has changed."""
    await session.exec(update(RevisionRow).values(number=RevisionRow.number + 1))


async def get_revision(engine: AsyncEngine) -> int:
    """Return the counter; asked twice a second by every process, hence without a session."""
    async with engine.connect() as connection:
        return int((await connection.execute(_GET)).scalar_one())
