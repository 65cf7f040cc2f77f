"""Make API keys, for oneself or for others."""

from typing import Final

from msgspec import json

from api.expiry import to_expires_ms
from api.trim import trimmed
from shared.account_errors import ExpirationTooFarError
from shared.clock import now_ms, to_seconds
from shared.keys.schemas import SUBSCRIPTION_KEY, CreateKeyRequest, Token
from shared.keys.tables import KeyRow
from shared.secrets import hash_key, mask, new_api_key
from shared.settings import Settings

_DAY_MS: Final = 86_400_000


def make_key(settings: Settings, user_id: int, body: CreateKeyRequest) -> tuple[KeyRow, str]:
    """Return the row of a new key and its secret; raises `InvalidFieldError` and `ExpirationTooFarError`."""
    now, days = now_ms(), settings.key_max_expiration_days
    expires_ms = to_expires_ms(body.expires)
    if days is not None:
        latest = now + days * _DAY_MS
        if expires_ms is not None and expires_ms > latest:
            raise ExpirationTooFarError(days)
        expires_ms = latest if expires_ms is None else expires_ms
    scopes = None if body.scopes is None else json.encode(sorted(set(body.scopes))).decode()
    return new_key_row(user_id, trimmed(body.name, "name"), expires_ms=expires_ms, scopes=scopes, dialect=body.dialect)


def new_key_row(
    user_id: int,
    name: str,
    *,
    expires_ms: int | None,
    scopes: str | None = None,
    kind: str = "api",
    dialect: str | None = None,
) -> tuple[KeyRow, str]:
    """Return the row of a new key and its secret."""
    secret = new_api_key("sk-sub-" if kind == SUBSCRIPTION_KEY else "sk-")
    row = KeyRow(
        name=name, user_id=user_id, hash=hash_key(secret), masked=mask(secret), kind=kind, scopes=scopes,
        dialect=dialect, expires_ms=expires_ms, created_ms=now_ms(),
    )  # fmt: skip
    return row, secret


def to_token(row: KeyRow) -> Token:
    """Return a key without its secret."""
    return Token(
        id=row.id or 0,
        name=row.name,
        token=row.masked,
        user=row.user_id,
        expires=to_seconds(row.expires_ms),
        scopes=None if row.scopes is None else json.decode(row.scopes),
        dialect=row.dialect,  # type: ignore[arg-type]  # a column
        last_used_at=to_seconds(row.last_used_ms),
        created=row.created_ms // 1000,
    )
