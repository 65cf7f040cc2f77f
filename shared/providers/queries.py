"""Every statement on `providers`.  The session comes first; nothing here commits."""

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import ConflictError, NotFoundError
from shared.lists import ListQuery
from shared.lists_sql import list_rows
from shared.providers.errors import InconsistentModelError
from shared.providers.tables import ProviderRow
from shared.revision import raise_revision
from shared.routers.tables import RouterRow


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


async def check_consistency(session: AsyncSession, router: RouterRow, row: ProviderRow) -> None:
    """Raise `InconsistentModelError` if the router has a provider of another vector size or context length."""
    others = select(ProviderRow).where(ProviderRow.router_id == router.id, ProviderRow.id != (row.id or 0))
    with session.no_autoflush:
        found = (await session.exec(others)).all()
    for column, name in (("vector_size", "vector size"), ("max_context_length", "max context length")):
        actual = getattr(row, column)
        for expected in (getattr(other, column) for other in found):
            if None not in (expected, actual) and expected != actual:
                raise InconsistentModelError(
                    f"Inconsistent {name} for {router.name}. Expected: {expected}. Actual: {actual}"
                )


async def describe_router(session: AsyncSession, router_id: int) -> None:
    """Note with the router what its providers found out about the model; the oldest that knows decides."""
    router = await session.get(RouterRow, router_id)
    if router is None:
        return
    rows = (
        await session.exec(select(ProviderRow).where(ProviderRow.router_id == router_id).order_by(col(ProviderRow.id)))
    ).all()
    router.vector_size = next((row.vector_size for row in rows if row.vector_size is not None), None)
    lengths = (row.max_context_length for row in rows if row.max_context_length is not None)
    router.max_context_length = next(lengths, None)
    await session.flush()


async def delete_provider(session: AsyncSession, row: ProviderRow) -> None:
    """Delete a provider."""
    await session.delete(row)
    await session.flush()
    await describe_router(session, row.router_id)
    await raise_revision(session)
