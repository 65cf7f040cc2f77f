"""Reports, closes and restatements against sums of the rows that are added up here, one by one, in integers."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import update
from sqlmodel import col, select

from api.usage_report import make_report
from shared.carbon.zones import Factors, Zone, current_factors
from shared.clock import to_datetime
from shared.database import Database
from shared.migrations import migrate
from shared.providers.tables import ProviderRow
from shared.routers.tables import RouterRow
from shared.usage.report_queries import SUMS, Part
from shared.usage.reports import UsageLine
from shared.usage.schemas import MICRO, NANO_PER_UNIT
from shared.usage.tables import ChargeRow, CloseRow, RestatementRow, UsageRecordRow
from tests.conftest import name_after
from tests.databases import new_postgres_database
from tests.ledgers import draw_ledger, newest, store, sums_by
from worker.ledger.__main__ import main
from worker.ledger.closes import LedgerError, close_month, compare_closes, encode, month_bounds, verify_close
from worker.ledger.restatement import Task, restate

MONTH = "2026-09"
FIRST_MS, END_MS = month_bounds(MONTH)
DIMENSIONS = ("organization", "user", "key", "model", "provider")
EVERY_SUBSET = list(chain.from_iterable(combinations(DIMENSIONS, n) for n in range(len(DIMENSIONS) + 1)))
TASK = Task(from_ms=FIRST_MS, until_ms=END_MS, deployments="recorded", reason="new factors")
PERIODS = {"day": "%Y-%m-%d", "month": "%Y-%m"}
AFTER = END_MS + 3_600_000


def dirtier(times: float) -> Factors:
    """Return factors of a later version."""
    zones = {
        code: Zone(code, zone.kg_per_kwh * times, zone.l_per_kwh) for code, zone in current_factors().zones.items()
    }
    return Factors(f"times {times}", zones)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database.engine)
    yield database
    await database.close()


async def rows(database: Database, table: Any) -> list[Any]:
    async with database.read() as session:
        return list((await session.exec(select(table))).all())


async def fill(database: Database, seed: int) -> None:
    """Store a month and the days around it."""
    for number, (first_ms, days) in enumerate(((FIRST_MS, 30), (FIRST_MS - 2 * 86_400_000, 2), (END_MS, 2))):
        records, charges = draw_ledger(seed * 10 + number, first_ms, days)
        await store(database, records + charges)


async def report(database: Database, period: str, dimensions: Any) -> tuple[list[UsageLine], UsageLine]:
    part = Part(from_ms=FIRST_MS, until_ms=END_MS, dimensions=dimensions, filters={}, named={})
    async with database.read() as session:
        return await make_report(session, part, period)


def within(found: list[Any]) -> list[Any]:
    return [row for row in found if FIRST_MS <= row.created_ms < END_MS]


def as_stored(line: UsageLine) -> list[float]:
    """Return the line in the ledger's units, as far as floats tell; see `as_told`."""
    return [
        line.attempts, line.prompt_tokens, line.completion_tokens, line.cached_tokens, line.cost, line.kwh,
        line.kwh_range.min, line.kwh_range.max, line.gco2eq.operational, line.gco2eq.embodied, line.gco2eq.range.min,
        line.gco2eq.range.max, line.water_l,
    ]  # fmt: skip


def as_told(count: int, sums: list[int]) -> list[float]:
    """Return exact sums as a report has to tell them: divided once."""
    units = dict.fromkeys(SUMS, 1) | {"cost_micros": MICRO, "water_nl": 10**9} | {
        name: 10**9 if name.endswith("_ng") else NANO_PER_UNIT for name in SUMS if name.endswith(("_ng", "_nwh"))
    }  # fmt: skip
    return [count, *(value / units[name] for name, value in zip(SUMS, sums, strict=True))]


async def check_reports(database: Database) -> None:
    records = within(newest(await rows(database, UsageRecordRow)))
    charges = within(await rows(database, ChargeRow))
    for number, dimensions in enumerate(EVERY_SUBSET):
        period = ("day", "month", "total")[number % 3]
        lines, total = await report(database, period, dimensions)

        def told(instant_ms: int, period: str = period) -> str | None:
            return None if period == "total" else to_datetime(instant_ms).strftime(PERIODS[period])

        expected = sums_by(records, dimensions, SUMS, told)
        found = {_group(line, dimensions): as_stored(line) for line in lines if line.attempts}
        assert found == {group: as_told(count, sums) for group, (count, *sums) in expected.items()}
        everything = sums_by(records, (), SUMS, lambda _: None)[(None,)]
        assert as_stored(total) == as_told(everything[0], everything[1:])
        if "provider" not in dimensions:
            paid = sums_by(charges, dimensions, ("amount_micros",), told)
            assert {_group(line, dimensions): (line.requests, line.charge) for line in lines if line.requests} == {
                group: (count, micros / MICRO) for group, (count, micros) in paid.items()
            }


def _group(line: UsageLine, dimensions: Any) -> tuple[Any, ...]:
    names = {"model": "model"} | {name: f"{name}_id" for name in DIMENSIONS if name != "model"}
    return (line.period, *(getattr(line, names[name]) for name in dimensions))


@pytest.mark.parametrize("seed", range(3))
async def test_a_report_is_the_sum_of_the_rows_however_it_is_grouped(database: Database, seed: int) -> None:
    await fill(database, seed)

    await check_reports(database)


async def test_a_restated_attempt_counts_once(database: Database) -> None:
    await fill(database, 7)
    before = await rows(database, UsageRecordRow)
    _, old = await report(database, "month", ())

    first = await restate(database, TASK, dirtier(2))
    await check_reports(database)
    second = await restate(database, TASK, dirtier(3))
    await check_reports(database)

    after = {row.id: row for row in await rows(database, UsageRecordRow)}
    _, new = await report(database, "month", ())
    assert first.restated == second.restated > 50
    assert all(after[row.id].model_dump() == row.model_dump() for row in before)
    assert len(after) == len(before) + first.restated + second.restated
    assert (new.attempts, new.cost, new.kwh, new.charge) == (old.attempts, old.cost, old.kwh, old.charge)
    assert new.gco2eq.operational == pytest.approx(3 * old.gco2eq.operational, rel=1e-6)
    assert new.gco2eq.embodied == old.gco2eq.embodied
    assert (new.coverage, new.sources) == (old.coverage, old.sources)


async def test_what_is_right_already_is_not_restated(database: Database) -> None:
    await fill(database, 8)

    nothing = await restate(database, TASK)
    changed = await restate(database, TASK, dirtier(2))
    again = await restate(database, TASK, dirtier(2))

    assert (nothing.number, nothing.restated, nothing.unknown) == (1, 0, 0)
    assert changed.restated == nothing.unchanged == again.unchanged
    assert again.restated == 0
    runs = await rows(database, RestatementRow)
    assert [(run.number, run.records, run.reason) for run in runs] == [
        (1, 0, "new factors"), (2, changed.restated, "new factors"), (3, 0, "new factors"),
    ]  # fmt: skip


async def test_other_months_and_attempts_without_a_provider_are_left_alone(database: Database) -> None:
    await fill(database, 9)

    await restate(database, TASK, dirtier(2))

    written = [row for row in await rows(database, UsageRecordRow) if row.supersedes]
    assert all(FIRST_MS <= row.created_ms < END_MS and row.zone is not None for row in written)
    assert {row.factors for row in written} == {"times 2"}


async def add_provider(database: Database, number: int, **members: Any) -> None:
    async with database.transaction() as session:
        session.add(RouterRow(id=1, name="a", type="text-generation", created_ms=0, updated_ms=0))
        await session.flush()
        given = {"id": number, "router_id": 1, "type": "openai", "url": "http://x/", "model_name": "m"}
        session.add(ProviderRow(created_ms=0, updated_ms=0, **given | members))


async def test_what_became_known_of_a_provider_can_be_counted_later(database: Database) -> None:
    await fill(database, 10)
    await add_provider(database, 3, model_total_params=70.0, model_hosting_zone="FRA")
    _, before = await report(database, "month", ())

    outcome = await restate(database, Task(from_ms=FIRST_MS, until_ms=END_MS, deployments="current", reason="sizes"))

    _, after = await report(database, "month", ())
    written = [row for row in await rows(database, UsageRecordRow) if row.supersedes]
    assert {row.provider_id for row in written} == {3}
    assert outcome.unknown > 0
    assert 0 < (before.coverage or 0) < (after.coverage or 0)
    await check_reports(database)


async def test_records_without_a_description_are_computed_from_their_provider(database: Database) -> None:
    await fill(database, 11)
    await add_provider(database, 2, model_total_params=8.0, model_active_params=1.5, model_hosting_zone="SWE")
    async with database.transaction() as session:
        await session.exec(update(UsageRecordRow).values(deployment=None))

    outcome = await restate(database, TASK)

    written = [row for row in await rows(database, UsageRecordRow) if row.supersedes]
    assert (outcome.restated, written) == (0, [])
    assert outcome.unchanged > 0
    assert outcome.unknown > 0


async def test_a_close_is_made_once_and_comes_out_the_same(database: Database) -> None:
    await fill(database, 12)

    first = await close_month(database, MONTH, AFTER)
    again = await close_month(database, MONTH, AFTER + 10**9)
    row, is_same = await verify_close(database, MONTH, None)

    records, charges = within(await rows(database, UsageRecordRow)), within(await rows(database, ChargeRow))
    assert encode(first) == encode(again) == row.document.encode()
    assert (is_same, first.revision, len(await rows(database, CloseRow))) == (True, 1, 1)
    assert (first.records, first.charges) == (len(records), len(charges))
    assert first.charged_micros == sum(charge.amount_micros for charge in charges)
    for name in SUMS:
        assert getattr(first.total, name) == sum(getattr(record, name) for record in records)
        assert getattr(first.total, name) == sum(getattr(group, name) for group in first.usage)
    known = first.total.measured_tokens + first.total.modelled_tokens
    assert known == sum(one.prompt_tokens + one.completion_tokens for one in records if one.source != "none")


async def test_after_a_restatement_the_old_close_still_comes_out_the_same(database: Database) -> None:
    await fill(database, 13)
    old = await close_month(database, MONTH, AFTER)
    await restate(database, TASK, dirtier(2))

    new = await close_month(database, MONTH, AFTER)
    await restate(database, TASK, dirtier(3))

    outcomes = [(await verify_close(database, MONTH, revision))[1] for revision in (1, 2)]
    difference = await compare_closes(database, MONTH, 1, 2)
    assert (old.revision, new.revision, new.restatement, outcomes) == (1, 2, 1, [True, True])
    assert new.total.operational_ng > old.total.operational_ng
    assert difference.total["operational_ng"] == (old.total.operational_ng, new.total.operational_ng)
    assert set(difference.total) == {"operational_ng", "carbon_low_ng", "carbon_high_ng"}
    assert sum(
        after - before for group in difference.groups for before, after in [group.changed["operational_ng"]]
    ) == (new.total.operational_ng - old.total.operational_ng)


async def test_a_changed_or_late_row_is_noticed(database: Database) -> None:
    await fill(database, 14)
    await close_month(database, MONTH, AFTER)
    record = within(await rows(database, UsageRecordRow))[0]
    async with database.transaction() as session:
        changed = update(UsageRecordRow).where(col(UsageRecordRow.id) == record.id)
        await session.exec(changed.values(cost_micros=UsageRecordRow.cost_micros + 1))

    assert (await verify_close(database, MONTH, 1))[1] is False
    newer = await close_month(database, MONTH, AFTER)
    assert newer.revision == 2
    difference = await compare_closes(database, MONTH, 1, 2)
    assert [before + 1 for before, _ in difference.total.values()] == [after for _, after in difference.total.values()]


async def test_a_month_that_is_not_over_cannot_be_closed(database: Database) -> None:
    with pytest.raises(LedgerError, match="before an hour after its end"):
        await close_month(database, MONTH, AFTER - 1)
    with pytest.raises(LedgerError, match="is no month"):
        await close_month(database, "2026-13", AFTER)
    with pytest.raises(LedgerError, match="has no close"):
        await verify_close(database, MONTH, None)


@pytest.fixture
def two_urls(tmp_path: Path, postgres_url: str) -> tuple[str, str]:
    """An empty database on each engine."""
    return f"sqlite:///{tmp_path}/ledger.db", new_postgres_database(postgres_url, name_after(tmp_path))


async def test_both_databases_close_a_month_with_the_same_bytes(two_urls: tuple[str, str]) -> None:
    documents = []
    for url in two_urls:
        database = Database(url)
        await migrate(database.engine)
        await fill(database, 15)
        documents.append(encode(await close_month(database, MONTH, AFTER)))
        await database.close()

    assert documents[0] == documents[1]


async def prepare(url: str) -> None:
    database = Database(url)
    await migrate(database.engine)
    await database.close()


def test_the_command_closes_proves_shows_and_restates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    asyncio.run(prepare(url))
    monkeypatch.setenv("SLUICE_DATABASE_URL", url)

    codes = [main([command, "2026-01"]) for command in ("verify", "close", "close", "verify", "show")]
    codes.append(main(["restate", "2026-01", "2026-02", "--reason", "a test"]))
    codes.append(main(["restate", "2026-02", "2026-01", "--reason", "a test"]))

    out, err = capfd.readouterr()
    first, second, shown, restated = out.splitlines()
    assert codes == [1, 0, 0, 0, 0, 0, 1]
    assert first == second == shown
    assert json.loads(first)["month"] == "2026-01"
    assert json.loads(restated)["restated"] == 0
    assert "comes out the same" in err
    assert "2026-01 is before 2026-02" in err
