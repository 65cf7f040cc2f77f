"""One page of a table for the lists of the administration API."""

from typing import Any, TypeVar

from sqlalchemy import func
from sqlmodel import SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.lists import ListQuery

R = TypeVar("R", bound=SQLModel)


async def list_rows(
    session: AsyncSession, table: type[R], query: ListQuery, columns: dict[str, Any], conditions: list[Any]
) -> tuple[list[R], int]:
    """Return one page and the number of all rows that match; rows of equal order stand by id."""
    field, descends = query.order(frozenset(columns))
    order = columns[field].desc() if descends else columns[field]
    statement = select(table).where(*conditions).order_by(order, columns["id"])
    rows = (await session.exec(statement.offset(query.offset).limit(query.limit))).all()
    total = (await session.exec(select(func.count()).select_from(table).where(*conditions))).one()
    return list(rows), total
