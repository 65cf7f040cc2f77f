"""Wire types of usage reports: sums of the ledger by time and by whoever used it."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from shared.lists import Name, RowId
from shared.usage.schemas import Range

Dimension = Literal["organization", "user", "key", "model", "provider"]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$", examples=["2026-11-01"])]
MOST_DAYS: Final = 3660


class UsageReportQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which part of the ledger, and how it is added up.  Days are those of UTC; `until` is the last one."""

    since: Day | None = None
    """Default: the first of this month."""
    until: Day | None = None
    """Default: today."""
    period: Literal["day", "month", "total"] = "day"
    group_by: list[Dimension] = []
    """May be repeated."""
    model: Annotated[str, Meta(max_length=255)] | None = None
    """Name of a router."""
    key_id: RowId | None = None
    user_id: RowId | None = None
    organization_id: RowId | None = None
    provider_id: RowId | None = None
    """Then there are no charges, as with `group_by=provider`: a job may have tried several."""
    key: Name | None = None
    """By its name as it is today, like the next two, or by its id; several may have the same."""
    user: Name | None = None
    """Email."""
    organization: Name | None = None


class Emissions(Struct, kw_only=True):
    """g CO2e: central estimate with its two parts, and the 90 % range."""

    total: float
    operational: float
    embodied: float
    range: Range


class UsageLine(Struct, kw_only=True):
    """One period of one group; what is not grouped by is null."""

    period: str | None
    """`2026-11-21`, `2026-11`, or null for all of it."""
    organization_id: int | None
    user_id: int | None
    key_id: int | None
    model: str | None
    provider_id: int | None
    attempts: int
    requests: int | None
    """Jobs that ended; null if grouped by provider, since several may have been tried."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: float
    """What all attempts consumed, at the prices of their time."""
    charge: float | None
    """What callers paid; null if grouped by provider."""
    kwh: float
    kwh_range: Range
    gco2eq: Emissions
    water_l: float
    gco2eq_per_1000_tokens: float | None
    """SCI (ISO/IEC 21031) per 1,000 tokens, prompt and completion, of the attempts whose footprint is known."""
    coverage: float | None
    """Share of the tokens whose footprint is known; null without tokens."""
    sources: dict[str, float]
    """Share of the tokens by where the footprint comes from: measured, modelled, none."""
    organization_name: str | None
    """Names are those of today; null if it is gone, too."""
    user_email: str | None
    key_name: str | None
    provider_name: str | None
    """The model as the provider calls it."""


class UsageReportPage(Struct, kw_only=True):
    """The lines of a report, by period and then by group, and their sum."""

    since: str
    until: str
    data: list[UsageLine]
    total: UsageLine
    object: Literal["usage_report"] = "usage_report"
