"""Who is calling: API keys of the database, kept in memory until something about keys or users changes."""

import hmac
from typing import Final

from msgspec import Struct, json
from sqlmodel import select

from shared.clock import now_ms
from shared.database import Database
from shared.directory import Directory
from shared.errors import AuthenticationError, PermissionDeniedError
from shared.keys.tables import KeyRow
from shared.roles.tables import RoleRow
from shared.secrets import hash_key
from shared.users.tables import UserRow

ADMIN: Final = "admin"
MASTER_ID: Final = 0
_MAX_CACHED: Final = 100_000


class Caller(Struct, frozen=True, kw_only=True):
    """The account behind a key."""

    user_id: int
    organization_id: int | None
    key_id: int | None
    permissions: frozenset[str]
    priority: int
    key_expires_ms: int | None
    account_expires_ms: int | None

    @property
    def is_admin(self) -> bool:
        """Return whether the caller may administer the installation."""
        return ADMIN in self.permissions

    @property
    def tenant(self) -> str:
        """Return whose fair share of the queue the caller's jobs use."""
        return str(self.organization_id) if self.organization_id is not None else f"u{self.user_id}"


MASTER: Final = Caller(
    user_id=MASTER_ID, organization_id=None, key_id=None, permissions=frozenset({ADMIN, "read_metric"}), priority=0,
    key_expires_ms=None, account_expires_ms=None,
)  # fmt: skip


class KeyRing:
    """Finds the caller of a bearer key; a known key costs no database read."""

    def __init__(self, database: Database, directory: Directory, admin_key: str) -> None:
        self._database = database
        self._directory = directory
        self._admin_key = admin_key.encode()
        self._callers: dict[str, Caller] = {}
        self._revision = -1

    async def authenticate(self, header: str | None) -> Caller:
        """Return the caller; raises `AuthenticationError`, or `PermissionDeniedError` if the account has expired."""
        caller = await self._find(_bearer(header))
        now = now_ms()
        if caller is None or (caller.key_expires_ms is not None and caller.key_expires_ms <= now):
            raise AuthenticationError("Invalid API key.")
        if caller.account_expires_ms is not None and caller.account_expires_ms <= now:
            raise PermissionDeniedError("Your account has expired. Please contact support to renew your account.")
        return caller

    async def _find(self, key: str) -> Caller | None:
        if hmac.compare_digest(key.encode("utf-8", "surrogatepass"), self._admin_key):
            return MASTER
        if self._revision != self._directory.revision or len(self._callers) > _MAX_CACHED:
            self._callers.clear()
            self._revision = self._directory.revision
        digest = hash_key(key)
        caller = self._callers.get(digest)
        if caller is None:
            revision = self._revision
            caller = await self._read(digest)
            if caller is not None and revision == self._revision:
                self._callers[digest] = caller
        return caller

    async def _read(self, digest: str) -> Caller | None:
        async with self._database.read() as session:
            statement = (
                select(KeyRow, UserRow, RoleRow)
                .join(UserRow, UserRow.id == KeyRow.user_id)  # type: ignore[arg-type]  # a column expression
                .join(RoleRow, RoleRow.id == UserRow.role_id)  # type: ignore[arg-type]
                .where(KeyRow.hash == digest)
            )
            found = (await session.exec(statement)).first()
        if found is None:
            return None
        key, user, role = found
        return Caller(
            user_id=user.id or 0,
            organization_id=user.organization_id,
            key_id=key.id,
            permissions=frozenset(json.decode(role.permissions)),
            priority=user.priority,
            key_expires_ms=key.expires_ms,
            account_expires_ms=user.expires_ms,
        )


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
