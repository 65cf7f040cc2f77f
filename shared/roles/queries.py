"""Every statement on `roles` and `limits`.  The session comes first; nothing here commits."""

from collections.abc import Iterable

from sqlalchemy import delete, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import InUseError, NotFoundError
from shared.lists import ListQuery
from shared.lists_sql import list_rows
from shared.revision import raise_revision
from shared.roles.schemas import Limit, RouterLimits
from shared.roles.tables import LimitRow, RoleRow
from shared.routers.tables import RouterRow
from shared.saving import save_unique
from shared.users.tables import UserRow


async def get_role(session: AsyncSession, role_id: int) -> RoleRow:
    """Return the role; raises `NotFoundError`."""
    row = await session.get(RoleRow, role_id)
    if row is None:
        raise NotFoundError("Role not found.")
    return row


async def list_roles(session: AsyncSession, query: ListQuery) -> tuple[list[RoleRow], int]:
    """Return one page of roles and the number of all."""
    columns = {
        "id": col(RoleRow.id), "name": col(RoleRow.name),
        "created": col(RoleRow.created_ms), "updated": col(RoleRow.updated_ms),
    }  # fmt: skip
    return await list_rows(session, RoleRow, query, columns, [])


async def list_limits(session: AsyncSession, role_ids: list[int]) -> dict[int, list[Limit]]:
    """Return the limits of these roles, by router and type."""
    limits: dict[int, list[Limit]] = {role_id: [] for role_id in role_ids}
    statement = select(LimitRow).where(col(LimitRow.role_id).in_(role_ids))
    for row in (await session.exec(statement.order_by(col(LimitRow.router_id), col(LimitRow.type)))).all():
        limits[row.role_id].append(
            Limit(router=row.router_id, router_id=row.router_id, type=row.type, value=row.value)  # type: ignore[arg-type]
        )
    return limits


async def get_router_limits(session: AsyncSession, role_id: int) -> dict[int, RouterLimits]:
    """Return what the role allows, by router; a router that is not in it is none of the role's business."""
    values: dict[int, dict[str, int | None]] = {}
    for limit in (await list_limits(session, [role_id]))[role_id]:
        values.setdefault(limit.router, {})[limit.type] = limit.value
    return {router_id: RouterLimits(**limits) for router_id, limits in values.items()}


async def list_open_routers(session: AsyncSession) -> set[int]:
    """Return the routers that every user may use, whatever his role."""
    held = select(col(UserRow.role_id)).distinct().subquery()
    column, value = col(LimitRow.router_id), col(LimitRow.value)
    statement = (
        select(column)
        .join(held, held.c.role_id == col(LimitRow.role_id))
        .group_by(column)
        .having(
            func.count(col(LimitRow.role_id).distinct()) == select(func.count()).select_from(held).scalar_subquery(),
            func.coalesce(func.min(value), 1) > 0,
        )
    )
    return set((await session.exec(statement)).all())


async def count_holders(session: AsyncSession, role_ids: list[int]) -> dict[int, int]:
    """Return how many users have these roles."""
    column = col(UserRow.role_id)
    statement = select(column, func.count()).where(column.in_(role_ids)).group_by(column)
    return dict.fromkeys(role_ids, 0) | dict((await session.exec(statement)).all())


async def save_role(session: AsyncSession, row: RoleRow) -> None:
    """Insert or update; raises `ConflictError` if another role has the name."""
    same = select(RoleRow.id).where(RoleRow.name == row.name, RoleRow.id != (row.id or 0))
    await save_unique(session, row, same, "Role already exists.")


async def replace_limits(session: AsyncSession, role_id: int, limits: Iterable[Limit]) -> None:
    """Set the limits of a role; raises `NotFoundError` for an unknown router."""
    limits = list(limits)
    wanted = {limit.router for limit in limits}
    known = set((await session.exec(select(RouterRow.id).where(col(RouterRow.id).in_(wanted)))).all())
    if unknown := sorted(wanted - known):
        raise NotFoundError(f"Model router {unknown[0]} not found.")
    await session.exec(delete(LimitRow).where(col(LimitRow.role_id) == role_id))
    session.add_all(LimitRow(role_id=role_id, router_id=one.router, type=one.type, value=one.value) for one in limits)
    try:
        await session.flush()
    except IntegrityError as error:  # a router was deleted at the same moment
        raise NotFoundError("Model router not found.") from error


async def delete_role(session: AsyncSession, row: RoleRow) -> None:
    """Delete a role with its limits; raises `InUseError` if a user has it."""
    message = "Delete role with users is not allowed."
    if (await count_holders(session, [row.id or 0]))[row.id or 0]:
        raise InUseError(message)
    await session.exec(delete(LimitRow).where(col(LimitRow.role_id) == row.id))
    await session.delete(row)
    try:
        await session.flush()
    except IntegrityError as error:  # a user got it at the same moment
        raise InUseError(message) from error
    await raise_revision(session)
