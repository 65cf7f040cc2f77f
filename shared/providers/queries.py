"""Every statement on `providers`.  The session comes first; nothing here commits."""

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import ConflictError, NotFoundError
from shared.lists import ListQuery
from shared.lists_sql import list_rows
from shared.providers.tables import ProviderRow
from shared.revision import raise_revision


async def get_provider(session: AsyncSession, provider_id: int) -> ProviderRow:
    """Return the provider; raises `NotFoundError`."""
    row = await session.get(ProviderRow, provider_id)
    if row is None:
        raise NotFoundError(f"Model provider {provider_id} not found.")
    return row


async def list_providers(
    session: AsyncSession, query: ListQuery, router_id: int | None
) -> tuple[list[ProviderRow], int]:
    """Return one page of providers and the number of all that match."""
    columns = {
        "id": col(ProviderRow.id), "model_name": col(ProviderRow.model_name), "created": col(ProviderRow.created_ms),
    }  # fmt: skip
    conditions = [] if router_id is None else [ProviderRow.router_id == router_id]
    return await list_rows(session, ProviderRow, query, columns, conditions)


async def save_provider(session: AsyncSession, row: ProviderRow) -> None:
    """Insert or update; raises `ConflictError` if the router has the same one."""
    statement = select(ProviderRow.id).where(
        ProviderRow.router_id == row.router_id,
        ProviderRow.url == row.url,
        ProviderRow.model_name == row.model_name,
        ProviderRow.id != (row.id or 0),
    )
    with session.no_autoflush:
        if (await session.exec(statement)).first() is not None:
            raise ConflictError(
                f"Model provider {row.model_name} for url {row.url} already exists for router {row.router_id}."
            )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:  # somebody inserted it, or deleted the router, at the same moment
        raise ConflictError(f"Model provider {row.model_name} cannot be added now.") from error
    await raise_revision(session)


async def delete_provider(session: AsyncSession, row: ProviderRow) -> None:
    """Delete a provider."""
    await session.delete(row)
    await raise_revision(session)
