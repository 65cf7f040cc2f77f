"""/v1/admin/roles: permissions, and limits on routers."""

from typing import cast

from msgspec import json
from sqlmodel.ext.asyncio.session import AsyncSession

from api.audit import audit
from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.trim import trimmed
from shared.clock import now_ms
from shared.errors import ConflictError, InUseError, NotFoundError
from shared.lists import ListPage, ListQuery, RowId
from shared.roles.queries import count_holders, list_limits, replace_limits, save_role
from shared.roles.queries import delete_role as remove_role
from shared.roles.queries import get_role as query_role
from shared.roles.queries import list_roles as query_roles
from shared.roles.schemas import CreateRoleRequest, Permission, Role, UpdateRoleRequest, to_limits
from shared.roles.tables import RoleRow

routes = Routes("Admin: roles")


@routes.post("/v1/admin/roles", right="admin", status=201, raises=(NotFoundError, ConflictError))
async def create_role(call: Call, body: CreateRoleRequest) -> Role:
    """Create a role; its users may use the routers it has limits for, as far as the limits go."""
    now, limits = now_ms(), to_limits(body.limits or [])
    permissions = _encode(body.permissions or [])
    row = RoleRow(name=trimmed(body.name, "name"), permissions=permissions, created_ms=now, updated_ms=now)
    async with call.state.database.transaction() as session:
        await save_role(session, row)
        await replace_limits(session, row.id or 0, limits)
        created = (await _to_roles(session, [row]))[0]
        audit(session, call, "role.create", "role", created.id, None, created)
        await keep_answer(session, call, created)
    await call.state.directory.refresh()
    return created


@routes.get("/v1/admin/roles", right="admin")
async def list_roles(call: Call, query: ListQuery) -> ListPage[Role]:
    """List roles, ordered by id, name, created or updated."""
    async with call.state.database.read() as session:
        rows, total = await query_roles(session, query)
        data = await _to_roles(session, rows)
    return ListPage(data=data, total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/roles/{role}", right="admin", raises=(NotFoundError,))
async def get_role(call: Call, role: RowId) -> Role:
    """Get a role."""
    async with call.state.database.read() as session:
        return (await _to_roles(session, [await query_role(session, role)]))[0]


@routes.patch("/v1/admin/roles/{role}", right="admin", status=204, raises=(NotFoundError, ConflictError))
async def update_role(call: Call, role: RowId, body: UpdateRoleRequest) -> None:
    """Change a role; it holds for the next request of each of its users, and what they have used stays used."""
    name = None if body.name is None else trimmed(body.name, "name")
    limits = None if body.limits is None else to_limits(body.limits)
    async with call.state.database.transaction() as session:
        row = await query_role(session, role)
        before = (await _to_roles(session, [row]))[0]
        row.name, row.updated_ms = name or row.name, now_ms()
        row.permissions = row.permissions if body.permissions is None else _encode(body.permissions)
        await save_role(session, row)
        if limits is not None:
            await replace_limits(session, role, limits)
        audit(session, call, "role.update", "role", role, before, (await _to_roles(session, [row]))[0])
    await call.state.directory.refresh()


@routes.delete("/v1/admin/roles/{role}", right="admin", status=204, raises=(NotFoundError, InUseError))
async def delete_role(call: Call, role: RowId) -> None:
    """Delete a role that no user has."""
    async with call.state.database.transaction() as session:
        row = await query_role(session, role)
        before = (await _to_roles(session, [row]))[0]
        await remove_role(session, row)
        audit(session, call, "role.delete", "role", role, before, None)
    await call.state.directory.refresh()


def _encode(permissions: list[Permission]) -> str:
    """Return the column's form, each permission once."""
    return json.encode(list(dict.fromkeys(permissions))).decode()


async def _to_roles(session: AsyncSession, rows: list[RoleRow]) -> list[Role]:
    ids = [row.id or 0 for row in rows]
    limits, users = await list_limits(session, ids), await count_holders(session, ids)
    return [
        Role(
            id=row.id or 0,
            name=row.name,
            permissions=cast(list[Permission], json.decode(row.permissions)),
            limits=limits[row.id or 0],
            users=users[row.id or 0],
            created=row.created_ms // 1000,
            updated=row.updated_ms // 1000,
        )
        for row in rows
    ]
