"""/v1/admin/organizations: tenants."""

import asyncio
from typing import Any, Final

from msgspec import UNSET
from sqlmodel.ext.asyncio.session import AsyncSession

from api.audit import audit
from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.shards import forget_accounts, recount_account
from api.trim import trimmed
from shared.admission.records import carbon_account, money_account, organization_of, user_of
from shared.clock import now_ms
from shared.errors import ConflictError, InUseError, InvalidFieldError, NotFoundError
from shared.lists import ListPage, ListQuery, RowId
from shared.money import MG_PER_G, MICROS_PER_UNIT, from_integer, to_integer
from shared.organizations.queries import (
    count_members,
    count_shards,
    has_unfinished,
    list_members,
    lock_organization,
    save_organization,
)
from shared.organizations.queries import delete_organization as remove_organization
from shared.organizations.queries import get_organization as query_organization
from shared.organizations.queries import list_organizations as query_organizations
from shared.organizations.schemas import CreateOrganizationRequest, Organization, UpdateOrganizationRequest
from shared.organizations.tables import OrganizationRow
from shared.settings import DAY_S

routes = Routes("Admin: organizations")
_KNOWN_S: Final = 2.0
"""A change is known to all processes within a second; what they accepted before is stored within another."""


@routes.post("/v1/admin/organizations", right="admin", status=201, raises=(ConflictError,))
async def create_organization(call: Call, body: CreateOrganizationRequest) -> Organization:
    """Create an organization."""
    now = now_ms()
    row = OrganizationRow(
        name=trimmed(body.name, "name"),
        budget_micros=to_integer(body.budget, MICROS_PER_UNIT, "budget"),
        carbon_budget_mg=to_integer(body.carbon_budget, MG_PER_G, "carbon_budget"),
        content_policy=body.content_policy,
        shard=_check_shard(call, body.shard),
        log_ttl_s=None if body.log_days is None else body.log_days * DAY_S,
        created_ms=now,
        updated_ms=now,
    )
    async with call.state.database.transaction() as session:
        if body.shard is None:
            organizations = await count_shards(session)
            row.shard = min(range(len(call.state.shards)), key=lambda shard: organizations.get(shard, 0))
        await save_organization(session, row, "Organization already exists.")
        created = _to_organization(row, 0)
        audit(session, call, "organization.create", "organization", created.id, None, created)
        await keep_answer(session, call, created)
    await call.state.directory.refresh()
    return created


@routes.get("/v1/admin/organizations", right="admin")
async def list_organizations(call: Call, query: ListQuery) -> ListPage[Organization]:
    """List organizations, ordered by id, name, created or updated."""
    async with call.state.database.read() as session:
        rows, total = await query_organizations(session, query)
        users = await count_members(session, [row.id or 0 for row in rows])
    data = [_to_organization(row, users[row.id or 0]) for row in rows]
    return ListPage(data=data, total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/organizations/{organization}", right="admin", raises=(NotFoundError,))
async def get_organization(call: Call, organization: RowId) -> Organization:
    """Get an organization."""
    async with call.state.database.read() as session:
        return await _read(session, organization)


@routes.patch(
    "/v1/admin/organizations/{organization}", right="admin", status=204, raises=(NotFoundError, ConflictError)
)
async def update_organization(call: Call, organization: RowId, body: UpdateOrganizationRequest) -> None:
    """Rename an organization, change its budgets or its shard, or what the request log keeps of it."""
    changes = _changes(call, body)
    async with call.state.database.transaction() as session:
        row = await lock_organization(session, organization)
        before = await _read(session, organization)
        is_moved = changes.get("shard", before.shard) != before.shard
        if is_moved and await has_unfinished(session, organization_id=organization):
            raise ConflictError("An organization with unfinished jobs keeps its shard.")
        for name, value in changes.items():
            setattr(row, name, value)
        if "budget_micros" in changes:
            row.budget_version += 1
        await save_organization(session, row, "Organization name already taken. Please, choose another one.")
        after = _to_organization(row, before.users)
        audit(session, call, "organization.update", "organization", organization, before, after)
    if is_moved:
        await _follow_move(call, organization)
    if "budget_micros" in changes:
        await forget_accounts(call.state, money_account(organization_of(organization)))
    if before.carbon_budget is None and changes.get("carbon_budget_mg") is not None:
        await recount_account(call.state, carbon_account(organization_of(organization), now_ms()))
    await call.state.directory.refresh()


async def _follow_move(call: Call, organization: int) -> None:
    """Have every account of an organization read anew, once all processes know where it is.

    What one of them accepted meanwhile holds its share in the database by then, so it is counted.
    """
    await call.state.directory.refresh()
    await asyncio.sleep(_KNOWN_S)
    async with call.state.database.read() as session:
        users = await list_members(session, organization)
    owners = (organization_of(organization), *map(user_of, users))
    accounts = [name for one in owners for name in (money_account(one), carbon_account(one, now_ms()))]
    await forget_accounts(call.state, *accounts)


def _check_shard(call: Call, shard: int | None) -> int:
    """Return the shard; raises `InvalidFieldError` if there is no such one."""
    if shard is not None and shard >= len(call.state.shards):
        raise InvalidFieldError(["body", "shard"], f"There are {len(call.state.shards)} shards.")
    return shard or 0


def _changes(call: Call, body: UpdateOrganizationRequest) -> dict[str, Any]:
    """Return the new values of columns; raises `InvalidFieldError`."""
    changes: dict[str, Any] = {"updated_ms": now_ms()}
    if body.name is not None:
        changes["name"] = trimmed(body.name, "name")
    if body.budget is not UNSET:
        changes["budget_micros"] = to_integer(body.budget, MICROS_PER_UNIT, "budget")
    if body.carbon_budget is not UNSET:
        changes["carbon_budget_mg"] = to_integer(body.carbon_budget, MG_PER_G, "carbon_budget")
    if body.content_policy is not None:
        changes["content_policy"] = body.content_policy
    if body.shard is not None:
        changes["shard"] = _check_shard(call, body.shard)
    if body.log_days is not UNSET:
        changes["log_ttl_s"] = None if body.log_days is None else body.log_days * DAY_S
    return changes


@routes.delete("/v1/admin/organizations/{organization}", right="admin", status=204, raises=(NotFoundError, InUseError))
async def delete_organization(call: Call, organization: RowId) -> None:
    """Delete an organization that has no users."""
    async with call.state.database.transaction() as session:
        before = await _read(session, organization)
        await remove_organization(session, await query_organization(session, organization))
        audit(session, call, "organization.delete", "organization", organization, before, None)
    await call.state.directory.refresh()


async def _read(session: AsyncSession, organization_id: int) -> Organization:
    row = await query_organization(session, organization_id)
    return _to_organization(row, (await count_members(session, [organization_id]))[organization_id])


def _to_organization(row: OrganizationRow, users: int) -> Organization:
    return Organization(
        id=row.id or 0,
        name=row.name,
        users=users,
        budget=from_integer(row.budget_micros, MICROS_PER_UNIT),
        carbon_budget=from_integer(row.carbon_budget_mg, MG_PER_G),
        content_policy=row.content_policy,  # type: ignore[arg-type]  # a column
        log_days=None if row.log_ttl_s is None else row.log_ttl_s // DAY_S,
        shard=row.shard,
        created=row.created_ms // 1000,
        updated=row.updated_ms // 1000,
    )
