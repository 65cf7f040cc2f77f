"""Every statement on `routers` and their names.  The session comes first; nothing here commits."""

from sqlalchemy import delete, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import ConflictError, NotFoundError
from shared.lists import ListQuery
from shared.lists_sql import list_rows
from shared.providers.tables import ProviderRow
from shared.revision import raise_revision
from shared.roles.tables import LimitRow
from shared.routers.tables import RouterNameRow, RouterRow


async def get_router(session: AsyncSession, router_id: int) -> RouterRow:
    """Return the router; raises `NotFoundError`."""
    row = await session.get(RouterRow, router_id)
    if row is None:
        raise NotFoundError(f"Model router {router_id} not found.")
    return row


async def list_routers(session: AsyncSession, query: ListQuery) -> tuple[list[RouterRow], int]:
    """Return one page of routers and the number of all."""
    columns = {"id": col(RouterRow.id), "name": col(RouterRow.name), "created": col(RouterRow.created_ms)}
    return await list_rows(session, RouterRow, query, columns, [])


async def list_aliases(session: AsyncSession, router_ids: list[int]) -> dict[int, list[str]]:
    """Return the aliases of these routers, sorted."""
    statement = select(RouterNameRow).where(col(RouterNameRow.router_id).in_(router_ids), RouterNameRow.is_alias)
    aliases: dict[int, list[str]] = {router_id: [] for router_id in router_ids}
    for row in (await session.exec(statement.order_by(col(RouterNameRow.name)))).all():
        aliases[row.router_id].append(row.name)
    return aliases


async def count_providers(session: AsyncSession, router_ids: list[int]) -> dict[int, int]:
    """Return how many providers these routers have."""
    statement = (
        select(ProviderRow.router_id, func.count())
        .where(col(ProviderRow.router_id).in_(router_ids))
        .group_by(col(ProviderRow.router_id))
    )
    return dict.fromkeys(router_ids, 0) | dict((await session.exec(statement)).all())


async def list_provider_types(session: AsyncSession, router_id: int) -> list[str]:
    """Return the types of the router's providers."""
    return list((await session.exec(select(ProviderRow.type).where(ProviderRow.router_id == router_id))).all())


async def insert_router(session: AsyncSession, row: RouterRow, aliases: list[str]) -> None:
    """Insert a router with its names; raises `ConflictError` if one of them is taken."""
    await _check_names(session, row, aliases)
    session.add(row)
    await session.flush()
    await _insert_names(session, row, aliases)


async def update_router(session: AsyncSession, row: RouterRow, aliases: list[str]) -> None:
    """Write a changed router and replace its names; raises `ConflictError` if one of another router is among them."""
    await _check_names(session, row, aliases)
    await session.exec(delete(RouterNameRow).where(col(RouterNameRow.router_id) == row.id))
    await _insert_names(session, row, aliases)


async def _check_names(session: AsyncSession, row: RouterRow, aliases: list[str]) -> None:
    statement = select(RouterNameRow.name).where(
        col(RouterNameRow.name).in_([row.name, *aliases]), RouterNameRow.router_id != (row.id or 0)
    )
    found = (await session.exec(statement)).all()
    if row.name in found:
        raise ConflictError(f"Router {row.name} already exists.")
    if found:
        raise ConflictError(f"Following aliases already exist: '{sorted(found)}'")


async def _insert_names(session: AsyncSession, row: RouterRow, aliases: list[str]) -> None:
    session.add_all(
        RouterNameRow(name=name, router_id=row.id or 0, is_alias=name != row.name)
        for name in dict.fromkeys([row.name, *aliases])
    )
    try:
        await session.flush()
    except IntegrityError as error:  # somebody took the name at the same moment
        raise ConflictError(f"Router {row.name} already exists.") from error
    await raise_revision(session)


async def delete_router(session: AsyncSession, row: RouterRow) -> None:
    """Delete a router with its names, its providers and the limits of roles on it."""
    for table in (ProviderRow, RouterNameRow, LimitRow):
        await session.exec(delete(table).where(col(table.router_id) == row.id))
    await session.delete(row)
    await raise_revision(session)
