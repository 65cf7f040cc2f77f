"""Sums of the ledger.  The session comes first; nothing here commits.

Integers are added up by the database and divided once, at the end: so a report is the sum of its rows to the last
micro-unit, however it is grouped.  Of a restated record only the newest form counts.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import BigInteger, case, cast, func
from sqlalchemy import select as sa_select
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.usage.newest import IS_NEWEST
from shared.usage.tables import ChargeRow, UsageRecordRow

DAY_MS: Final = 86_400_000
COLUMN_OF: Final = {
    "organization": "organization_id", "user": "user_id", "key": "key_id", "model": "router_name",
    "provider": "provider_id",
}  # fmt: skip
SUMS: Final = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "cost_micros", "energy_nwh", "energy_low_nwh",
    "energy_high_nwh", "operational_ng", "embodied_ng", "carbon_low_ng", "carbon_high_ng", "water_nl",
)  # fmt: skip
SOURCES: Final = ("measured", "modelled", "none")


class Part(Struct, frozen=True, kw_only=True):
    """Which rows of the ledger, [from, until), and by what they are grouped."""

    from_ms: int
    until_ms: int
    dimensions: Sequence[str]
    filters: dict[str, Any]
    """Column → value; None is any."""
    named: dict[str, list[int]]
    """Column → values, one of which it has."""
    within: dict[str, int] = {}
    """Column → value, whatever else is asked for: what the caller may see."""


async def sum_records(session: AsyncSession, part: Part) -> list[tuple[Any, ...]]:
    """Return (day, *dimensions, attempts, *SUMS, tokens per source) of attempts."""
    tokens = col(UsageRecordRow.prompt_tokens) + col(UsageRecordRow.completion_tokens)
    sums = [func.sum(getattr(UsageRecordRow, name)) for name in SUMS]
    by_source = [func.sum(case((col(UsageRecordRow.source) == source, tokens), else_=0)) for source in SOURCES]
    return await _sum(session, UsageRecordRow, part, [func.count(), *sums, *by_source], [IS_NEWEST])


async def sum_charges(session: AsyncSession, part: Part) -> list[tuple[Any, ...]]:
    """Return (day, *dimensions, jobs, micro-units) of jobs that ended."""
    return await _sum(session, ChargeRow, part, [func.count(), func.sum(ChargeRow.amount_micros)], [])


async def _sum(
    session: AsyncSession, table: Any, part: Part, sums: list[Any], conditions: list[Any]
) -> list[tuple[Any, ...]]:
    day = cast(col(table.created_ms), BigInteger).op("/")(DAY_MS).label("day")
    groups = [day, *(col(getattr(table, COLUMN_OF[name])) for name in part.dimensions)]
    equal = [col(getattr(table, name)) == value for name, value in part.filters.items() if value is not None]
    equal += [col(getattr(table, name)) == value for name, value in part.within.items()]
    equal += [col(getattr(table, name)).in_(ids) for name, ids in part.named.items()]
    span = [col(table.created_ms) >= part.from_ms, col(table.created_ms) < part.until_ms]
    statement: Any = sa_select(*groups, *sums).where(*span, *equal, *conditions).group_by(*groups)
    rows = (await session.exec(statement)).all()
    return [tuple(row[: len(groups)]) + tuple(int(value or 0) for value in row[len(groups) :]) for row in rows]
