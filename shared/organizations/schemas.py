"""Wire types of /v1/admin/organizations."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.money import Budget, CarbonBudget

ContentPolicy = Literal["full", "metadata", "none"]
LogDays = Annotated[int, Meta(ge=1, le=3650)]
Shard = Annotated[int, Meta(ge=0, le=10_000)]
OrganizationName = Annotated[str, Meta(min_length=1, max_length=255)]


class CreateOrganizationRequest(Struct, kw_only=True):
    """A new tenant."""

    name: OrganizationName
    budget: Budget | None = None
    carbon_budget: CarbonBudget | None = None
    content_policy: ContentPolicy = "full"
    """What the request log shows of its requests: bodies and headers, no bodies, or neither."""
    shard: Shard | None = None
    """Whose Redis is to have its jobs; absent: the one with the fewest organizations."""
    log_days: LogDays | None = None
    """How long its rows of the request log are kept, if not as long as the settings say; never longer."""


class UpdateOrganizationRequest(Struct, kw_only=True):
    """What is absent stays; a budget that is null becomes unlimited."""

    name: OrganizationName | None = None
    budget: Budget | UnsetType | None = UNSET
    carbon_budget: CarbonBudget | UnsetType | None = UNSET
    content_policy: ContentPolicy | None = None
    log_days: LogDays | UnsetType | None = UNSET
    shard: Shard | None = None
    """Only of an organization without unfinished jobs."""


class Organization(Struct, kw_only=True):
    """A tenant; `users` belong to it."""

    id: int
    name: str
    users: int
    budget: float | None
    carbon_budget: float | None
    content_policy: ContentPolicy
    log_days: int | None
    shard: int
    created: int
    updated: int
    object: Literal["organization"] = "organization"
