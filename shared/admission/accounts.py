"""What the database knows of an account, for a Redis that does not."""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func
from sqlalchemy.dialects.postgresql import insert as insert_postgres
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.admission.gate import Truth
from shared.admission.records import CARBON, MONEY, decode_admission
from shared.admission.tables import CarbonAccountRow
from shared.database import Database
from shared.ids import oldest_ulid
from shared.jobs.tables import JobRow
from shared.organizations.tables import OrganizationRow
from shared.usage.tables import UsageRecordRow
from shared.users.tables import UserRow

UNLIMITED_MICROS: Final = 10**15
_NG_PER_UG: Final = 1000


async def read_truth(database: Database, account: str) -> Truth:
    """Return value and open holds of an account; the first look at a month's emissions adds them up and notes them."""
    kind, owner, *month = account.split(":")
    async with database.read() as session:
        holds = await _read_holds(session, account, kind, owner)
        value, version = await _read_money(session, owner) if kind == MONEY else (0, 0)
    if kind == CARBON:
        value, version = await _read_carbon(database, account, owner, month[0])
    return Truth(value=value, version=version, holds=holds)


async def _read_holds(session: AsyncSession, account: str, kind: str, owner: str) -> dict[str, int]:
    statement = select(JobRow.id, JobRow.admission).where(
        _is_of(JobRow, owner), col(JobRow.finished_ms).is_(None), col(JobRow.admission).is_not(None)
    )
    holds: dict[str, int] = {}
    for job_id, text in (await session.exec(statement)).all():
        admission = decode_admission(text)
        if admission is not None and account in admission.accounts:
            amounts = {MONEY: admission.held_micros or 0, CARBON: admission.held_ug}
            holds[job_id] = amounts.get(kind, admission.tokens)
    return holds


def _is_of(table: Any, owner: str) -> ColumnElement[bool]:
    column = table.user_id if owner[0] == "u" else table.organization_id
    return col(column) == int(owner[1:])


async def _read_money(session: AsyncSession, owner: str) -> tuple[int, int]:
    table: Any = UserRow if owner[0] == "u" else OrganizationRow
    found = (
        await session.exec(select(table.budget_micros, table.budget_version).where(table.id == int(owner[1:])))
    ).first()
    if found is None or found[0] is None:  # it was unlimited a moment ago
        return UNLIMITED_MICROS, 0 if found is None else found[1]
    return found[0], found[1]


async def recount_emissions(database: Database, account: str) -> None:
    """Add up a month anew: what was emitted while the owner had no carbon budget was not noted."""
    async with database.transaction() as session:
        row = await session.get(CarbonAccountRow, account, with_for_update=True)
        if row is not None:
            _, owner, month = account.split(":")
            row.emitted_ug = await _sum_emissions(session, owner, month)
            row.version += 1


async def _sum_emissions(session: AsyncSession, owner: str, month: str) -> int:
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    total = func.sum(UsageRecordRow.operational_ng + UsageRecordRow.embodied_ng)
    since = UsageRecordRow.id >= oldest_ulid(int(first.timestamp() * 1000))
    first_form = UsageRecordRow.supersedes == ""  # a restatement spends no budget
    emitted_ng = (await session.exec(select(total).where(since, first_form, _is_of(UsageRecordRow, owner)))).one()
    return int(emitted_ng or 0) // _NG_PER_UG


async def _read_carbon(database: Database, account: str, owner: str, month: str) -> tuple[int, int]:
    async with database.read() as session:
        row = await session.get(CarbonAccountRow, account)
        if row is not None:
            return row.emitted_ug, row.version
        emitted_ug = await _sum_emissions(session, owner, month)
    async with database.transaction() as session:
        values = {"name": account, "emitted_ug": emitted_ug, "version": 1}
        insert = insert_postgres if session.get_bind().dialect.name == "postgresql" else insert_sqlite
        await session.exec(insert(CarbonAccountRow).values(values).on_conflict_do_nothing())
        row = await session.get_one(CarbonAccountRow, account)
        return row.emitted_ug, row.version
