"""Close months: add the ledger up, keep what came of it, and show later that it still comes of it."""

import datetime as dt
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from msgspec import Struct, json
from sqlalchemy import literal_column
from sqlalchemy import select as sa_select
from sqlalchemy.orm import aliased
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.clock import now_ms
from shared.database import Database
from shared.usage.closes import ChargeGroup, MonthClose, RecordSums, UsageGroup
from shared.usage.queries import find_close
from shared.usage.tables import ChargeRow, CloseRow, UsageRecordRow

SETTLING_MS: Final = 3_600_000
"""A month is closed this long after its end: what ended in it may be written a little later."""
_NEWER: Final = aliased(UsageRecordRow)
_GROUPS: Final = ("organization_id", "user_id", "key_id", "router_name", "provider_id", "method", "factors")
_SUMS: Final = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost_micros", "energy_nwh",
    "energy_low_nwh", "energy_high_nwh", "operational_ng", "embodied_ng", "carbon_low_ng", "carbon_high_ng", "water_nl",
    "prefill_nwh",
)  # fmt: skip
_FACTS: Final = (
    "id", "supersedes", "job_id", "attempt", "status", "created_ms", "router_id", "provider_model", "endpoint",
    "http_status", "is_estimated", "latency_ms", "zone", "zone_effective", "source", "footprint_status", "deployment",
    "restatement",
)  # fmt: skip
_RECORD: Final = (*_GROUPS, *_SUMS, *_FACTS)
_CHARGE: Final = (
    "organization_id", "user_id", "key_id", "router_name", "amount_micros", "job_id", "status", "created_ms",
    "router_id", "kind", "prompt_tokens", "completion_tokens",
)  # fmt: skip
_SOURCE: Final = _RECORD.index("source")
_RESTATEMENT: Final = _RECORD.index("restatement")


class LedgerError(Exception):
    """What an operator asked for and cannot be done; the message says why."""


class _Sum(Struct):
    groups: dict[tuple[Any, ...], list[int]]
    rows: int = 0
    restatement: int = 0


def month_bounds(month: str) -> tuple[int, int]:
    """Return the first instant of a month such as `2026-10`, and that of the next one; UTC."""
    try:
        first = dt.datetime.strptime(month, "%Y-%m").replace(tzinfo=dt.UTC)
    except ValueError:
        raise LedgerError(f"{month!r} is no month: expected one such as 2026-10.") from None
    following = (first + dt.timedelta(days=32)).replace(day=1)
    return int(first.timestamp() * 1000), int(following.timestamp() * 1000)


async def close_month(database: Database, month: str, now: int) -> MonthClose:
    """Return the month's newest close; a new one is made if there is none or the ledger says something else now."""
    if now < month_bounds(month)[1] + SETTLING_MS:
        raise LedgerError(f"{month} cannot be closed before an hour after its end.")
    last = await find_last(database, month)
    found = await add_up(database, month, None, 1 if last is None else last.revision)
    if last is not None and last.document.encode() == encode(found):
        return found
    if last is not None:
        found.revision += 1
    row = CloseRow(
        month=month, revision=found.revision, created_ms=now_ms(), restatement=found.restatement,
        ledger_sha256=found.ledger_sha256, document=encode(found).decode(),
    )  # fmt: skip
    async with database.transaction() as session:
        session.add(row)
    return found


async def verify_close(database: Database, month: str, revision: int | None) -> tuple[CloseRow, bool]:
    """Return a close, the newest if none is named, and whether the ledger as it was then gives the same bytes."""
    row = await get_close(database, month, revision)
    found = await add_up(database, month, row.restatement, row.revision)
    return row, encode(found) == row.document.encode()


async def get_close(database: Database, month: str, revision: int | None) -> CloseRow:
    """Return a close; raises `LedgerError` if it is absent."""
    row = await find_last(database, month, revision)
    if row is None:
        raise LedgerError(f"{month} has no close{'' if revision is None else f' {revision}'}.")
    return row


async def find_last(database: Database, month: str, revision: int | None = None) -> CloseRow | None:
    """Return a close, the newest if none is named; None if it is absent."""
    month_bounds(month)
    async with database.read() as session:
        return await find_close(session, month, revision)


def encode(close: MonthClose) -> bytes:
    """Return the bytes that are kept."""
    return json.encode(close)


async def add_up(database: Database, month: str, restatement: int | None, revision: int) -> MonthClose:
    """Add a month up as it was after this restatement; None: as it is now."""
    from_ms, until_ms = month_bounds(month)
    digest = hashlib.sha256()
    async with database.read() as session:
        records = await _sum_records(session, _records(from_ms, until_ms, restatement), digest)
        charges = await _sum_charges(session, from_ms, until_ms, digest)
    usage = [_to_usage(group, sums) for group, sums in sorted(records.groups.items(), key=_order)]
    return MonthClose(
        month=month, revision=revision, restatement=records.restatement, records=records.rows, charges=charges.rows,
        ledger_sha256=digest.hexdigest(), total=_total(usage),
        charged_micros=sum(amount for _, amount in charges.groups.values()), usage=usage,
        charged=[
            ChargeGroup(
                organization_id=group[0], user_id=group[1], key_id=group[2], model=group[3], jobs=jobs,
                amount_micros=amount,
            )
            for group, (jobs, amount) in sorted(charges.groups.items(), key=_order)
        ],
    )  # fmt: skip


def _records(from_ms: int, until_ms: int, restatement: int | None) -> Any:
    """Select the newest records of that time, by id."""
    newer: Any = sa_select(col(_NEWER.id)).where(
        col(_NEWER.supersedes) == UsageRecordRow.id, col(_NEWER.supersedes) != literal_column("''")
    )
    statement: Any = sa_select(*(col(getattr(UsageRecordRow, name)) for name in _RECORD)).where(
        col(UsageRecordRow.created_ms) >= from_ms, col(UsageRecordRow.created_ms) < until_ms
    )
    if restatement is not None:
        newer = newer.where(col(_NEWER.restatement) <= restatement)
        statement = statement.where(col(UsageRecordRow.restatement) <= restatement)
    return statement.where(~newer.exists()).order_by(col(UsageRecordRow.id))


async def _sum_records(session: AsyncSession, statement: Any, digest: Any) -> _Sum:
    found, width = _Sum({}), len(_GROUPS)
    async for row in _stream(session, statement):
        digest.update(json.encode(row) + b"\n")
        sums = found.groups.setdefault(row[:width], [0] * (len(_SUMS) + 3))
        tokens = row[width] + row[width + 1]
        for place, value in enumerate(row[width : width + len(_SUMS)]):
            sums[place] += value
        sums[-3] += 1
        sums[-2] += tokens if row[_SOURCE] == "measured" else 0
        sums[-1] += tokens if row[_SOURCE] == "modelled" else 0
        found.rows += 1
        found.restatement = max(found.restatement, row[_RESTATEMENT])
    return found


async def _sum_charges(session: AsyncSession, from_ms: int, until_ms: int, digest: Any) -> _Sum:
    found = _Sum({})
    statement: Any = sa_select(*(col(getattr(ChargeRow, name)) for name in _CHARGE)).where(
        col(ChargeRow.created_ms) >= from_ms, col(ChargeRow.created_ms) < until_ms
    )
    async for row in _stream(session, statement.order_by(col(ChargeRow.job_id))):
        digest.update(json.encode(row) + b"\n")
        sums = found.groups.setdefault(row[:4], [0, 0])
        sums[0] += 1
        sums[1] += row[4]
        found.rows += 1
    return found


async def _stream(session: AsyncSession, statement: Any) -> AsyncIterator[tuple[Any, ...]]:
    async with (await session.connection()).stream(statement) as result:
        async for row in result:
            yield tuple(row)


def _to_usage(group: Sequence[Any], sums: Sequence[int]) -> UsageGroup:
    organization_id, user_id, key_id, model, provider_id, method, factors = group
    attempts, measured, modelled = sums[-3:]
    return UsageGroup(
        organization_id=organization_id, user_id=user_id, key_id=key_id, model=model, provider_id=provider_id,
        method=method, factors=factors, attempts=attempts, measured_tokens=measured, modelled_tokens=modelled,
        **dict(zip(_SUMS, sums, strict=False)),
    )  # fmt: skip


def _total(usage: Sequence[UsageGroup]) -> RecordSums:
    return RecordSums(**{name: sum(getattr(one, name) for one in usage) for name in RecordSums.__struct_fields__})


def _order(item: tuple[tuple[Any, ...], Any]) -> list[tuple[bool, Any]]:
    """Sort by groups; what is null comes first."""
    return [(value is not None, 0 if value is None else value) for value in item[0]]


class Change(Struct, kw_only=True):
    """Sums of one group before and after; only those that differ."""

    organization_id: int | None
    user_id: int
    key_id: int | None
    model: str
    provider_id: int | None
    changed: dict[str, tuple[int, int]]


class Comparison(Struct, kw_only=True):
    """What differs between two closes of a month."""

    month: str
    before: int
    after: int
    total: dict[str, tuple[int, int]]
    groups: list[Change]


async def compare_closes(database: Database, month: str, before: int, after: int) -> Comparison:
    """Return what differs between two revisions, whatever method and factors they were made with."""
    old, new = [
        json.decode((await get_close(database, month, revision)).document, type=MonthClose)
        for revision in (before, after)
    ]
    olds, news = _by_payer(old.usage), _by_payer(new.usage)
    groups = []
    for group in sorted(olds.keys() | news.keys(), key=lambda found: _order((found, None))):
        if changed := _changed(olds.get(group, RecordSums()), news.get(group, RecordSums())):
            organization_id, user_id, key_id, model, provider_id = group
            groups.append(
                Change(
                    organization_id=organization_id, user_id=user_id, key_id=key_id, model=model,
                    provider_id=provider_id, changed=changed,
                )
            )  # fmt: skip
    return Comparison(month=month, before=before, after=after, total=_changed(old.total, new.total), groups=groups)


def _by_payer(usage: Sequence[UsageGroup]) -> dict[tuple[Any, ...], RecordSums]:
    groups: dict[tuple[Any, ...], list[UsageGroup]] = {}
    for one in usage:
        groups.setdefault((one.organization_id, one.user_id, one.key_id, one.model, one.provider_id), []).append(one)
    return {group: _total(found) for group, found in groups.items()}


def _changed(old: RecordSums, new: RecordSums) -> dict[str, tuple[int, int]]:
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in RecordSums.__struct_fields__)
    return {name: (before, after) for name, before, after in pairs if before != after}
