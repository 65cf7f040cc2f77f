"""/v1/admin/users: accounts."""

from typing import Any

from msgspec import UNSET
from sqlmodel.ext.asyncio.session import AsyncSession

from api.accounts import checked_email, next_password_hash, store_password, to_user
from api.audit import audit
from api.call import Call
from api.expiry import to_expires_ms
from api.http import Routes
from api.once import keep_answer
from api.shards import forget_accounts, recount_account
from api.trim import trimmed
from shared.account_errors import InvalidPasswordError, PasswordNotSetError, ReservedEmailError
from shared.admission.records import carbon_account, money_account, user_of
from shared.clock import now_ms
from shared.errors import ConflictError, NotFoundError, OverloadedError, QueueUnavailableError, RateLimitError
from shared.lists import ListPage, RowId
from shared.money import MG_PER_G, MICROS_PER_UNIT, to_integer
from shared.organizations.queries import get_organization, has_unfinished
from shared.roles.queries import get_role
from shared.users.queries import delete_user as remove_user
from shared.users.queries import get_user as query_user
from shared.users.queries import list_users as query_users
from shared.users.queries import lock_user, save_user
from shared.users.schemas import CreateUserRequest, ListUsersQuery, UpdateUserRequest, User
from shared.users.tables import UserRow

routes = Routes("Admin: users")


@routes.post(
    "/v1/admin/users", right="admin", status=201,
    raises=(ReservedEmailError, NotFoundError, ConflictError, OverloadedError),
)  # fmt: skip
async def create_user(call: Call, body: CreateUserRequest) -> User:
    """Create a user, who can log in with email and password and make keys."""
    now = now_ms()
    row = UserRow(
        email=checked_email(body.email),
        name=None if body.name is None else trimmed(body.name, "name"),
        role_id=body.role,
        organization_id=body.organization,
        budget_micros=to_integer(body.budget, MICROS_PER_UNIT, "budget"),
        carbon_budget_mg=to_integer(body.carbon_budget, MG_PER_G, "carbon_budget"),
        expires_ms=to_expires_ms(body.expires),
        priority=body.priority or 0,
        created_ms=now,
        updated_ms=now,
    )
    row.password_hash = await call.state.passwords.hash(body.password)
    async with call.state.database.transaction() as session:
        await _check_references(session, body.role, body.organization)
        await save_user(session, row)
        created = to_user(row)
        audit(session, call, "user.create", "user", created.id, None, created)
        await keep_answer(session, call, created)
    await call.state.directory.refresh()
    return created


@routes.get("/v1/admin/users", right="admin", raises=(NotFoundError,))
async def list_users(call: Call, query: ListUsersQuery) -> ListPage[User]:
    """List users, ordered by id, name, email, created or updated; an `email` that nobody has is a 404."""
    async with call.state.database.read() as session:
        rows, total = await query_users(session, query)
    return ListPage(data=[to_user(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/users/{user}", right="admin", raises=(NotFoundError,))
async def get_user(call: Call, user: RowId) -> User:
    """Get a user."""
    async with call.state.database.read() as session:
        return to_user(await query_user(session, user))


@routes.patch(
    "/v1/admin/users/{user}", right="admin", status=204,
    raises=(
        ReservedEmailError, InvalidPasswordError, PasswordNotSetError, NotFoundError, ConflictError,
        RateLimitError, OverloadedError, QueueUnavailableError,
    ),
)  # fmt: skip
async def update_user(call: Call, user: RowId, body: UpdateUserRequest) -> None:
    """Change a user; what is absent stays as it is.

    Null clears `organization`, `budget`, `carbon_budget` and `expires`.  `current_password` is not needed; it is
    checked if it is sent.
    """
    changes = _changes(body)
    async with call.state.database.read() as session:
        found = await query_user(session, user)
    password_hash = await next_password_hash(call, found, body.password, body.current_password, needs_current=False)
    async with call.state.database.transaction() as session:
        row = await lock_user(session, user)
        await _check_references(session, changes.get("role_id"), changes.get("organization_id"))
        before = to_user(row)
        is_moved = changes.get("organization_id", row.organization_id) != row.organization_id
        if is_moved:
            await _check_move(session, row, changes["organization_id"])
        for name, value in changes.items():
            setattr(row, name, value)
        if "budget_micros" in changes:
            row.budget_version += 1
        await save_user(session, row)
        if password_hash is not None:
            await store_password(session, call, row, password_hash)
        audit(session, call, "user.update", "user", user, before, to_user(row))
    if is_moved:
        accounts = money_account(user_of(user)), carbon_account(user_of(user), now_ms())
        await forget_accounts(call.state, *accounts)
    if "budget_micros" in changes:
        await forget_accounts(call.state, money_account(user_of(user)))
    if before.carbon_budget is None and changes.get("carbon_budget_mg") is not None:
        await recount_account(call.state, carbon_account(user_of(user), now_ms()))
    await call.state.directory.refresh()


async def _check_move(session: AsyncSession, row: UserRow, organization_id: int | None) -> None:
    """Raise `ConflictError` if the user would leave unfinished jobs in another shard, where his accounts are held."""
    places = [row.organization_id, organization_id]
    shards = {0 if one is None else (await get_organization(session, one)).shard for one in places}
    if len(shards) > 1 and await has_unfinished(session, user_id=row.id):
        raise ConflictError("A user with unfinished jobs cannot join an organization of another shard.")


def _changes(body: UpdateUserRequest) -> dict[str, Any]:
    """Return the new values of columns; raises `InvalidFieldError` and `ReservedEmailError`."""
    changes: dict[str, Any] = {"updated_ms": now_ms()}
    if body.email is not None:
        changes["email"] = checked_email(body.email)
    if body.name is not None:
        changes["name"] = trimmed(body.name, "name")
    if body.role is not None:
        changes["role_id"] = body.role
    if body.priority is not None:
        changes["priority"] = body.priority
    if body.organization is not UNSET:
        changes["organization_id"] = body.organization
    if body.budget is not UNSET:
        changes["budget_micros"] = to_integer(body.budget, MICROS_PER_UNIT, "budget")
    if body.carbon_budget is not UNSET:
        changes["carbon_budget_mg"] = to_integer(body.carbon_budget, MG_PER_G, "carbon_budget")
    if body.expires is not UNSET:
        changes["expires_ms"] = to_expires_ms(body.expires)
    return changes


async def _check_references(session: AsyncSession, role_id: int | None, organization_id: int | None) -> None:
    """Raise `NotFoundError` unless what is named exists."""
    if role_id is not None:
        await get_role(session, role_id)
    if organization_id is not None:
        await get_organization(session, organization_id)


@routes.delete("/v1/admin/users/{user}", right="admin", status=204, raises=(NotFoundError,))
async def delete_user(call: Call, user: RowId) -> None:
    """Delete a user with his keys; routers and providers he made, usage and charges stay."""
    async with call.state.database.transaction() as session:
        row = await lock_user(session, user)
        audit(session, call, "user.delete", "user", user, to_user(row), None)
        await remove_user(session, row)
    await call.state.directory.refresh()
