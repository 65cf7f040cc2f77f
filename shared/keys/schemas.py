"""Wire types of /v1/admin/tokens."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.lists import ListQuery, RowId


class CreateTokenRequest(Struct, kw_only=True):
    """A new key of a user; `expires` is Unix seconds, null is never."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    user: RowId
    expires: Annotated[int, Meta(le=2**40)] | None = None


class NewKey(Struct, kw_only=True):
    """The full secret, shown this one time; `token` and `key` are the same."""

    id: int
    token: str
    key: str


class Token(Struct, kw_only=True):
    """A key without its secret."""

    id: int
    name: str
    token: str
    user: int
    expires: int | None
    created: int
    object: Literal["token"] = "token"


class TokenOwnerQuery(Struct, kw_only=True):
    """`user`, if given, must be the owner of the key."""

    user: RowId | None = None


class ListTokensQuery(ListQuery, kw_only=True):
    """`user` filters."""

    user: RowId | None = None
