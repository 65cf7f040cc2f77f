"""Wire types of /v1/admin/users, /v1/me/info and /v1/auth/login."""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.lists import ListQuery, RowId
from shared.money import Budget, CarbonBudget
from shared.roles.schemas import OwnLimit, Permission

MASTER_EMAIL: Final = "master"
"""Of user 0, whose key is a setting; nobody else may have it."""
Email = Annotated[str, Meta(min_length=1, max_length=1024, description="At most 254 characters, trimmed.")]
UserName = Annotated[str, Meta(min_length=1, max_length=255)]
Password = Annotated[str, Meta(min_length=12, max_length=1024, description="Never trimmed.")]
GivenPassword = Annotated[str, Meta(min_length=1, max_length=1024)]
Priority = Annotated[int, Meta(ge=0, le=2**31 - 1, description="Higher goes first.")]
Expires = Annotated[int, Meta(le=2**40, description="Unix seconds, in the future; null is never.")]


class CreateUserRequest(Struct, kw_only=True):
    """A new account; it needs a role to use anything."""

    email: Email
    name: UserName | None = None
    password: Password
    role: RowId
    organization: RowId | None = None
    budget: Budget | None = None
    carbon_budget: CarbonBudget | None = None
    expires: Expires | None = None
    priority: Priority | None = None


class UpdateUserRequest(Struct, kw_only=True):
    """What is absent stays; null clears `organization`, the budgets and `expires`, and leaves the rest as it is."""

    email: Email | None = None
    name: UserName | None = None
    password: Password | None = None
    current_password: GivenPassword | None = None
    role: RowId | None = None
    priority: Priority | None = None
    organization: RowId | UnsetType | None = UNSET
    budget: Budget | UnsetType | None = UNSET
    carbon_budget: CarbonBudget | UnsetType | None = UNSET
    expires: Expires | UnsetType | None = UNSET


class UpdateMeRequest(Struct, kw_only=True):
    """What users may change themselves; a new password needs the current one."""

    email: Email | None = None
    name: UserName | None = None
    password: Password | None = None
    current_password: GivenPassword | None = None


class User(Struct, kw_only=True):
    """An account; budgets that are null are unlimited."""

    id: int
    email: str
    name: str | None
    sub: str | None
    iss: str | None
    role: int
    organization: int | None
    budget: float | None
    carbon_budget: float | None
    expires: int | None
    priority: int
    created: int
    updated: int
    object: Literal["user"] = "user"


class UserInfo(Struct, kw_only=True):
    """An account as its owner sees it, with what its role allows."""

    id: int
    email: str
    name: str | None
    organization: int | None
    budget: float | None
    carbon_budget: float | None
    carbon_budget_remaining: float | None
    """Of this month; null is unlimited."""
    permissions: list[Permission]
    limits: list[OwnLimit]
    expires: int | None
    priority: int
    created: int
    updated: int
    object: Literal["userInfo"] = "userInfo"


class ListUsersQuery(ListQuery, kw_only=True):
    """Filters, combined with and; `email` is exact."""

    role: RowId | None = None
    organization: RowId | None = None
    email: Annotated[str, Meta(max_length=1024)] | None = None


class LoginRequest(Struct, kw_only=True):
    """Email and password of an account, or `master` and the master key."""

    email: Email
    password: GivenPassword


class Login(Struct, kw_only=True):
    """The new login key; `key` and `token` are the same."""

    id: int
    key: str
    token: str
