"""A closed month: what the ledger adds up to, in its own integers, and a hash over its rows."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.lists import PageQuery


class RecordSums(Struct, kw_only=True):
    """Sums over usage records.  Money in micro-units, energy in nWh (1e-12 kWh), mass in ng (1e-12 kg), water in nl."""

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    measured_tokens: int = 0
    """Prompt and completion tokens of attempts whose energy was measured."""
    modelled_tokens: int = 0
    """The same for those whose energy was computed; the rest is unknown."""
    cost_micros: int = 0
    energy_nwh: int = 0
    energy_low_nwh: int = 0
    energy_high_nwh: int = 0
    operational_ng: int = 0
    embodied_ng: int = 0
    carbon_low_ng: int = 0
    carbon_high_ng: int = 0
    water_nl: int = 0
    prefill_nwh: int = 0


class UsageGroup(RecordSums, kw_only=True):
    """What one key of one model consumed at one provider, by one version of method and factors."""

    organization_id: int | None
    user_id: int
    key_id: int | None
    model: str
    provider_id: int | None
    method: str
    factors: str


class ChargeGroup(Struct, kw_only=True):
    """What one key paid for one model."""

    organization_id: int | None
    user_id: int
    key_id: int | None
    model: str
    jobs: int = 0
    amount_micros: int = 0


class MonthClose(Struct, kw_only=True):
    """The same rows of the ledger give the same bytes, whenever and on whichever database it is made."""

    month: str
    """`2026-10`, UTC."""
    revision: int
    restatement: int
    """The last one whose records are in it; 0: none."""
    records: int
    charges: int
    ledger_sha256: str
    """Of the rows that count, as JSON arrays of their columns, one per line, by id: records first, then charges."""
    total: RecordSums
    charged_micros: int
    usage: list[UsageGroup]
    charged: list[ChargeGroup]
    object: Literal["usage.close"] = "usage.close"


class ListClosesQuery(PageQuery, kw_only=True, forbid_unknown_fields=True):
    """All of them, or those of one month."""

    month: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}$", examples=["2026-10"])] | None = None


class GetCloseQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which one of the month; default: the newest."""

    revision: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


class UsageClose(Struct, kw_only=True):
    """A close without its groups."""

    month: str
    revision: int
    created_at: int
    restatement: int
    records: int
    charges: int
    ledger_sha256: str
    charged_micros: int
    total: RecordSums
