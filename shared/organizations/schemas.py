"""Wire types of /v1/admin/organizations."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.money import Budget, CarbonBudget

OrganizationName = Annotated[str, Meta(min_length=1, max_length=255)]


class CreateOrganizationRequest(Struct, kw_only=True):
    """A new tenant."""

    name: OrganizationName
    budget: Budget | None = None
    carbon_budget: CarbonBudget | None = None


class UpdateOrganizationRequest(Struct, kw_only=True):
    """What is absent stays; a budget that is null becomes unlimited."""

    name: OrganizationName | None = None
    budget: Budget | UnsetType | None = UNSET
    carbon_budget: CarbonBudget | UnsetType | None = UNSET


class Organization(Struct, kw_only=True):
    """A tenant; `users` belong to it."""

    id: int
    name: str
    users: int
    budget: float | None
    carbon_budget: float | None
    created: int
    updated: int
    object: Literal["organization"] = "organization"
