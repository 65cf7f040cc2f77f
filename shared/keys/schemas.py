"""Wire types of /v1/admin/tokens and /v1/me/keys."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from shared.dialects import Dialect
from shared.lists import ListQuery, RowId

Scope = Literal["inference", "jobs", "collections", "admin"]
API_KEY: Final = "api"
LOGIN_KEY: Final = "login"
SUBSCRIPTION_KEY: Final = "subscription"


class CreateKeyRequest(Struct, kw_only=True):
    """A new key; `expires` is Unix seconds, null the longest time there is; `scopes` null is everything."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    expires: Annotated[int, Meta(le=2**40)] | None = None
    scopes: list[Scope] | None = None
    dialect: Annotated[
        Dialect | None, Meta(description="API whose defaults count where several share a path; null: `openai`.")
    ] = None


class CreateTokenRequest(CreateKeyRequest, kw_only=True):
    """The same for any user."""

    user: RowId


class NewKey(Struct, kw_only=True):
    """The full secret, shown this one time; `token` and `key` are the same."""

    id: int
    token: str
    key: str


class Token(Struct, kw_only=True):
    """A key without its secret; `last_used_at` is exact to a minute."""

    id: int
    name: str
    token: str
    user: int
    expires: int | None
    scopes: list[Scope] | None
    dialect: Dialect | None
    last_used_at: int | None
    created: int
    object: Literal["token"] = "token"


class Key(Struct, kw_only=True):
    """One's own key without its secret; `last_used_at` is exact to a minute."""

    id: int
    name: str
    token: str
    expires: int | None
    scopes: list[Scope] | None
    dialect: Dialect | None
    last_used_at: int | None
    created: int
    object: Literal["key"] = "key"


class TokenOwnerQuery(Struct, kw_only=True):
    """`user`, if given, must be the owner of the key."""

    user: RowId | None = None


class ListTokensQuery(ListQuery, kw_only=True):
    """`user` filters."""

    user: RowId | None = None
