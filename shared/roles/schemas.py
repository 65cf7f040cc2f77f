"""Wire types of /v1/admin/roles, and what a role allows on a router."""

from typing import Annotated, Final, Literal, get_args

from msgspec import Meta, Struct

from shared.errors import InvalidFieldError
from shared.lists import RowId, one_of

Permission = Literal[
    "admin", "create_public_collection", "read_metric", "provide_models", "read_organization_usage"
]  # fmt: skip
PERMISSIONS: Final[tuple[str, ...]] = get_args(Permission)
LimitType = Literal["rpm", "rpd", "tpm", "tpd"]
LIMIT_TYPES: Final[tuple[LimitType, ...]] = get_args(LimitType)
RoleName = Annotated[str, Meta(min_length=1, max_length=255)]


class RouterLimits(Struct, frozen=True, kw_only=True):
    """What a role allows on one router, per user; None is unlimited."""

    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    tpd: int | None = None

    @property
    def is_open(self) -> bool:
        """Return whether nothing is limited."""
        return self.rpm is self.rpd is self.tpm is self.tpd is None

    @property
    def is_closed(self) -> bool:
        """Return whether a limit of 0 forbids the router altogether."""
        return 0 in (self.rpm, self.rpd, self.tpm, self.tpd)


class LimitRequest(Struct, kw_only=True):
    """Requests (`rpm`, `rpd`) or input tokens (`tpm`, `tpd`) per minute or day; `router` is also `router_id`."""

    router: RowId | None = None
    router_id: RowId | None = None
    type: LimitType
    value: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Limit(Struct, kw_only=True):
    """One limit of a role on a router; null is unlimited."""

    router: int
    router_id: int
    type: LimitType
    value: int | None


class OwnLimit(Limit, kw_only=True):
    """A limit as who is limited sees it."""

    model: str
    """Name of the router."""


class CreateRoleRequest(Struct, kw_only=True):
    """A new role; a router without a limit cannot be used by it."""

    name: RoleName
    permissions: list[Permission] | None = None
    limits: Annotated[list[LimitRequest], Meta(max_length=10_000)] | None = None


class UpdateRoleRequest(Struct, kw_only=True):
    """What is absent or null stays; `permissions` and `limits` are replaced as a whole."""

    name: RoleName | None = None
    permissions: list[Permission] | None = None
    limits: Annotated[list[LimitRequest], Meta(max_length=10_000)] | None = None


class Role(Struct, kw_only=True):
    """What its `users` may do."""

    id: int
    name: str
    permissions: list[Permission]
    limits: list[Limit]
    users: int
    created: int
    updated: int
    object: Literal["role"] = "role"


def to_limits(requests: list[LimitRequest]) -> list[Limit]:
    """Return the limits with their routers named once; raises `InvalidFieldError` for doubles and missing routers."""
    limits: dict[tuple[int, str], Limit] = {}
    for index, request in enumerate(requests):
        router = one_of("router", request.router, "router_id", request.router_id, "body")
        if router is None:
            raise InvalidFieldError(
                ["body", "limits", index, "router"], "Object missing required field `router`", "missing"
            )
        if (router, request.type) in limits:
            raise InvalidFieldError(["body", "limits", index], f"Duplicate limit found: ({router}, {request.type}).")
        limits[router, request.type] = Limit(router=router, router_id=router, type=request.type, value=request.value)
    return list(limits.values())
