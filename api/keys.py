"""Who is calling: API keys of the database, kept in memory until something about keys or users changes."""

import asyncio
import hmac
from typing import Final

from msgspec import Struct, json
from sqlmodel import select

from api.last_used import LastUsed
from shared.account_errors import AccountExpiredError
from shared.clock import now_ms
from shared.database import Database
from shared.directory import Directory
from shared.errors import AuthenticationError
from shared.keys.schemas import SUBSCRIPTION_KEY
from shared.keys.tables import KeyRow
from shared.organizations.tables import OrganizationRow
from shared.roles.queries import get_router_limits
from shared.roles.schemas import PERMISSIONS, RouterLimits
from shared.roles.tables import RoleRow
from shared.secrets import hash_key
from shared.users.schemas import MASTER_EMAIL
from shared.users.tables import UserRow

ADMIN: Final = "admin"
MASTER_ID: Final = 0
_MAX_CACHED: Final = 100_000


class CallerBudgets(Struct, frozen=True, kw_only=True):
    """Which budgets limit the caller; carbon in µg per month."""

    user_has_money: bool = False
    organization_has_money: bool = False
    user_carbon_ug: int | None = None
    organization_carbon_ug: int | None = None


class Caller(Struct, frozen=True, kw_only=True):
    """The account behind a key."""

    user_id: int
    email: str
    organization_id: int | None
    key_id: int | None
    permissions: frozenset[str]
    """Of the role; without `admin` if the key has scopes and that is none of them."""
    scopes: frozenset[str] | None
    """What the key reaches; None is everything."""
    limits: dict[int, RouterLimits]
    """Of the role, by router; shared by all its callers."""
    budgets: CallerBudgets
    priority: int
    shard: int = 0
    """Of the organization: whose Redis has its jobs."""
    content_policy: str
    """Of the organization: what the request log keeps of its requests."""
    dialect: str | None = None
    """Of the key."""
    is_subscription: bool = False
    """Whether the key is that of a subscription, which has a usage of its own."""
    key_expires_ms: int | None
    account_expires_ms: int | None

    @property
    def is_master(self) -> bool:
        """Return whether this is the key of the installation's settings."""
        return self.user_id == MASTER_ID

    @property
    def is_admin(self) -> bool:
        """Return whether the caller may administer the installation."""
        return ADMIN in self.permissions

    @property
    def tenant(self) -> str:
        """Return whose fair share of the queue the caller's jobs use."""
        return str(self.organization_id) if self.organization_id is not None else f"u{self.user_id}"


MASTER: Final = Caller(
    user_id=MASTER_ID, email=MASTER_EMAIL, organization_id=None, key_id=None, permissions=frozenset(PERMISSIONS),
    scopes=None, limits={}, budgets=CallerBudgets(), priority=0, content_policy="full", key_expires_ms=None,
    account_expires_ms=None,
)  # fmt: skip


class KeyRing:
    """Finds the caller of a bearer key; a known key costs no database read."""

    def __init__(self, database: Database, directory: Directory, admin_key: str, last_used: LastUsed) -> None:
        self._database = database
        self._directory = directory
        self._admin_key = admin_key.encode()
        self._last_used = last_used
        self._callers: dict[str, Caller] = {}
        self._limits: dict[int, dict[int, RouterLimits]] = {}
        self._reading: dict[str, asyncio.Task[Caller | None]] = {}
        self._revision = -1

    def is_master_key(self, key: str) -> bool:
        """Return whether this is the key of the settings, in constant time."""
        return hmac.compare_digest(key.encode("utf-8", "surrogatepass"), self._admin_key)

    async def authenticate(self, header: str | None, *, may_be_expired: bool = False) -> Caller:
        """Return the caller; raises `AuthenticationError`, or `AccountExpiredError` unless that may be."""
        caller = await self._find(_bearer(header))
        now = now_ms()
        if caller is None or (caller.key_expires_ms is not None and caller.key_expires_ms <= now):
            raise AuthenticationError("Invalid API key.")
        if caller.account_expires_ms is not None and caller.account_expires_ms <= now and not may_be_expired:
            raise AccountExpiredError
        if caller.key_id is not None:
            self._last_used.note(caller.key_id, now)
        return caller

    async def find_owner(self, user_id: int, key_id: int | None) -> Caller | None:
        """Return the caller that a stored request came from, as he is now; None if his key or account has ended."""
        if user_id == MASTER_ID:
            return MASTER
        async with self._database.read() as session:
            digest = (await session.exec(select(KeyRow.hash).where(KeyRow.id == key_id))).first()
        caller, now = None if digest is None else await self._find_hashed(digest), now_ms()
        if caller is None or min(caller.key_expires_ms or now + 1, caller.account_expires_ms or now + 1) <= now:
            return None
        return caller

    async def _find(self, key: str) -> Caller | None:
        if self.is_master_key(key):
            return MASTER
        return await self._find_hashed(hash_key(key))

    async def _find_hashed(self, digest: str) -> Caller | None:
        if self._revision != self._directory.revision or len(self._callers) > _MAX_CACHED:
            self._callers.clear()
            self._limits.clear()
            self._revision = self._directory.revision
        return self._callers.get(digest) or await self._read_once(digest)

    async def _read_once(self, digest: str) -> Caller | None:
        """Read a key; requests of the same moment share it, since each read takes a connection."""
        reading = self._reading.get(digest)
        if reading is None:
            reading = self._reading[digest] = asyncio.get_running_loop().create_task(self._read(digest))
            reading.add_done_callback(lambda _: self._reading.pop(digest, None))
        return await asyncio.shield(reading)

    async def _read(self, digest: str) -> Caller | None:
        revision = self._revision
        async with self._database.read() as session:
            statement = (
                select(KeyRow, UserRow, RoleRow, OrganizationRow)
                .join(UserRow, UserRow.id == KeyRow.user_id)  # type: ignore[arg-type]  # a column expression
                .join(RoleRow, RoleRow.id == UserRow.role_id)  # type: ignore[arg-type]
                .join(OrganizationRow, OrganizationRow.id == UserRow.organization_id, isouter=True)  # type: ignore[arg-type]
                .where(KeyRow.hash == digest)
            )
            found = (await session.exec(statement)).first()
            if found is None:
                return None
            key, user, role, organization = found
            limits = self._limits.get(user.role_id)
            if limits is None:
                limits = await get_router_limits(session, user.role_id)
        caller = _caller(key, user, role, organization, limits)
        if revision == self._revision:
            self._callers[digest] = caller
            self._limits[user.role_id] = limits
        return caller


def _caller(
    key: KeyRow, user: UserRow, role: RoleRow, organization: OrganizationRow | None, limits: dict[int, RouterLimits]
) -> Caller:
    scopes: frozenset[str] | None = None if key.scopes is None else frozenset(json.decode(key.scopes))
    permissions: frozenset[str] = frozenset(json.decode(role.permissions))
    return Caller(
        user_id=user.id or 0,
        email=user.email,
        organization_id=user.organization_id,
        key_id=key.id,
        permissions=permissions if scopes is None or ADMIN in scopes else permissions - {ADMIN},
        scopes=scopes,
        limits=limits,
        budgets=_budgets(user, organization),
        priority=user.priority,
        shard=0 if organization is None else organization.shard,
        dialect=key.dialect,
        is_subscription=key.kind == SUBSCRIPTION_KEY,
        content_policy="full" if organization is None else organization.content_policy,
        key_expires_ms=key.expires_ms,
        account_expires_ms=user.expires_ms,
    )


def _budgets(user: UserRow, organization: OrganizationRow | None) -> CallerBudgets:
    return CallerBudgets(
        user_has_money=user.budget_micros is not None,
        organization_has_money=organization is not None and organization.budget_micros is not None,
        user_carbon_ug=_to_ug(user.carbon_budget_mg),
        organization_carbon_ug=None if organization is None else _to_ug(organization.carbon_budget_mg),
    )


def _to_ug(milligrams: int | None) -> int | None:
    return None if milligrams is None else milligrams * 1000


def _bearer(header: str | None) -> str:
    """Return the key of an `Authorization` header; raises `AuthenticationError`."""
    if header is None:
        raise AuthenticationError("Not authenticated")
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer":
        raise AuthenticationError("Invalid authentication scheme.")
    if not key.strip():
        raise AuthenticationError("Invalid API key.")
    return key.strip()
