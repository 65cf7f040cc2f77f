"""/v1/me/info: one's own account."""

from typing import cast

from msgspec import structs

from api.access import has_access
from api.accounts import checked_email, next_password_hash, store_password, to_user
from api.audit import audit
from api.call import Call
from api.http import Routes
from api.trim import trimmed
from shared.account_errors import InvalidPasswordError, PasswordNotSetError, ReservedEmailError
from shared.admission.accounts import read_truth
from shared.admission.records import carbon_account, user_of
from shared.clock import now_ms, to_seconds
from shared.errors import ConflictError, NotFoundError, OverloadedError, QueueUnavailableError, RateLimitError
from shared.money import MG_PER_G, MICROS_PER_UNIT, from_integer
from shared.roles.queries import list_limits
from shared.roles.schemas import LIMIT_TYPES, PERMISSIONS, OwnLimit, Permission
from shared.users.queries import get_user, lock_user, save_user
from shared.users.schemas import MASTER_EMAIL, UpdateMeRequest, UserInfo
from shared.users.tables import UserRow

routes = Routes("Me")


@routes.get("/v1/me/info", right="account", raises=(NotFoundError,))
async def get_me(call: Call) -> UserInfo:
    """Get one's account, with the permissions of its role and its limits on the models it may use."""
    if call.caller.is_master:
        return _master(call)
    async with call.state.database.read() as session:
        row = await get_user(session, call.caller.user_id)
        limits = (await list_limits(session, [row.role_id]))[row.role_id]
    names = {router.id: router.name for router in call.state.directory.routers()}
    shown = [
        OwnLimit(model=names[limit.router], **structs.asdict(limit))
        for limit in limits
        if limit.router in names and has_access(call.caller, limit.router)
    ]
    return _to_info(row, _permissions(call), shown, await _carbon_left_mg(call, row))


async def _carbon_left_mg(call: Call, row: UserRow) -> int | None:
    """Return what this month's emissions leave of the carbon budget."""
    if row.carbon_budget_mg is None:
        return None
    account = carbon_account(user_of(row.id or 0), now_ms())
    emitted_ug = (await read_truth(call.state.database, account)).value
    return max(row.carbon_budget_mg - emitted_ug // 1000, 0)


@routes.patch(
    "/v1/me/info", right="account", status=204,
    raises=(
        ReservedEmailError, InvalidPasswordError, PasswordNotSetError, NotFoundError, ConflictError,
        RateLimitError, OverloadedError, QueueUnavailableError,
    ),
)  # fmt: skip
async def update_me(call: Call, body: UpdateMeRequest) -> None:
    """Change one's name, email or password; a new password needs the current one, and nothing else can be changed."""
    user_id = call.caller.user_id
    email = None if body.email is None else checked_email(body.email)
    name = None if body.name is None else trimmed(body.name, "name")
    async with call.state.database.read() as session:
        found = await get_user(session, user_id)
    password_hash = await next_password_hash(call, found, body.password, body.current_password, needs_current=True)
    async with call.state.database.transaction() as session:
        row = await lock_user(session, user_id)
        if password_hash is not None and row.password_hash != found.password_hash:  # changed by somebody else
            raise InvalidPasswordError
        before = to_user(row)
        row.email, row.name, row.updated_ms = email or row.email, name or row.name, now_ms()
        await save_user(session, row)
        if password_hash is not None:
            await store_password(session, call, row, password_hash)
        audit(session, call, "user.update", "user", user_id, before, to_user(row))
    await call.state.directory.refresh()


def _permissions(call: Call) -> list[Permission]:
    return cast(list[Permission], [name for name in PERMISSIONS if name in call.caller.permissions])


def _to_info(
    row: UserRow, permissions: list[Permission], limits: list[OwnLimit], carbon_left_mg: int | None
) -> UserInfo:
    return UserInfo(
        id=row.id or 0,
        email=row.email,
        name=row.name,
        organization=row.organization_id,
        budget=from_integer(row.budget_micros, MICROS_PER_UNIT),
        carbon_budget=from_integer(row.carbon_budget_mg, MG_PER_G),
        carbon_budget_remaining=from_integer(carbon_left_mg, MG_PER_G),
        permissions=permissions,
        limits=limits,
        expires=to_seconds(row.expires_ms),
        priority=row.priority,
        created=row.created_ms // 1000,
        updated=row.updated_ms // 1000,
    )


def _master(call: Call) -> UserInfo:
    limits = [
        OwnLimit(model=router.name, router=router.id, router_id=router.id, type=kind, value=None)
        for router in call.state.directory.routers()
        for kind in LIMIT_TYPES
    ]
    return UserInfo(
        id=0, email=MASTER_EMAIL, name=MASTER_EMAIL, organization=0, budget=None, carbon_budget=None,
        carbon_budget_remaining=None, permissions=_permissions(call), limits=limits, expires=None, priority=0,
        created=0, updated=0,
    )  # fmt: skip
