"""Usage reports: sums of the ledger, to the last micro-unit."""

import csv
import io
from typing import Any

import pytest
from sqlalchemy import update

from shared.clock import now_ms
from shared.ids import new_ulid
from shared.usage.schemas import MICRO
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.people import ORGANIZATIONS, ROLES, USERS, add_user, create, key_of
from worker.ledger.closes import close_month, encode, month_bounds

REPORT, ALL, CLOSES = "/v1/usage/report", "/v1/admin/usage/report", "/v1/admin/usage/closes"
OF_ORGANIZATION = "/v1/organization/usage/report"


async def report(installation: Installation, path: str = ALL, **options: Any) -> Any:
    headers = installation.headers | options.pop("headers", {})
    response = await installation.client.get(path, headers=headers, params=options.pop("query", options))
    assert response.status == 200, await response.text()
    return await response.json()


async def use(installation: Installation) -> dict[str, Any]:
    """Have two users of an organization use two models; returns the headers of the first one."""
    await installation.add_model("paid", prices=(1.37, 2.61), model_total_params=70, model_active_params=70)
    organization = await create(installation, ORGANIZATIONS, name="o")
    first = await add_user(installation, "one@example.com", organization=organization["id"])
    second = await add_user(installation, "two@example.com")
    one, two = await key_of(installation, first["id"]), await key_of(installation, second["id"])
    for number, headers in enumerate((one, one, two)):
        answer = await installation.chat("x" * number, model="paid", headers=headers, simulator={"tokens": 7 + number})
        assert answer.status == 200
    assert (await installation.chat(headers=one)).status == 200
    await installation.chat(model="paid", headers=two, simulator={"fail": "400"})
    return one


async def test_a_report_is_the_sum_of_the_ledger(both: Installation) -> None:
    await use(both)
    records, charges = await both.rows(UsageRecordRow), await both.rows(ChargeRow)

    for group_by in ([], ["user"], ["organization", "model"], ["key"], ["user", "model", "key"]):
        query = [("group_by", name) for name in group_by]
        found = await report(both, query=query)
        lines = found["data"]
        for line in (found["total"], _added(lines)):
            assert round(line["charge"] * MICRO) == sum(charge.amount_micros for charge in charges)
            assert round(line["cost"] * MICRO) == sum(record.cost_micros for record in records)
            assert line["prompt_tokens"] == sum(record.prompt_tokens for record in records)
            assert round(line["kwh"] * 10**12) == sum(record.energy_nwh for record in records)
            assert (line["requests"], line["attempts"]) == (len(charges), len(records))
        total_ng = sum(record.operational_ng + record.embodied_ng for record in records)
        assert round(found["total"]["gco2eq"]["total"] * 10**9) == total_ng


def _added(lines: list[Any]) -> dict[str, Any]:
    names = ("charge", "cost", "prompt_tokens", "kwh", "requests", "attempts")
    return {name: sum(line[name] for line in lines) for name in names}


async def test_lines_are_those_of_the_groups(both: Installation) -> None:
    await use(both)

    by_model = await report(both, query=[("group_by", "model"), ("period", "month")])
    by_provider = await report(both, query=[("group_by", "provider"), ("period", "total")])

    assert [line["model"] for line in by_model["data"]] == ["paid", "simulator"]
    assert all(len(line["period"]) == 7 for line in by_model["data"])
    assert [(line["charge"], line["requests"], line["period"]) for line in by_provider["data"]] == [
        (None, None, None)
    ] * 2


async def test_lines_are_in_the_order_of_numbers(both: Installation) -> None:
    user = (await add_user(both, "one@example.com"))["id"]
    for headers in [await key_of(both, user) for _ in range(10)]:
        assert (await both.chat(headers=headers)).status == 200

    keys = [line["key_id"] for line in (await report(both, group_by="key"))["data"]]

    assert min(keys) < 10 <= max(keys)
    assert keys == sorted(keys)


async def test_a_report_is_of_those_who_are_named(both: Installation) -> None:
    first = await use(both)
    lines = {line["user_email"]: line for line in (await report(both, group_by="user"))["data"]}

    assert (await report(both, user="one@example.com"))["total"]["cost"] == lines["one@example.com"]["cost"]
    assert (await report(both, organization="o"))["total"]["cost"] == lines["one@example.com"]["cost"]
    assert (await report(both, key="k"))["total"]["attempts"] == sum(line["attempts"] for line in lines.values())
    assert (await report(both, REPORT, key="k", headers=first))["total"]["cost"] == lines["one@example.com"]["cost"]
    named = await both.get(f"{ALL}?user=nobody@example.com")
    assert (named.status, (await named.json())["detail"][0]["loc"]) == (422, ["query", "user"])


async def test_the_intensity_counts_what_is_known(both: Installation) -> None:
    await use(both)

    found = await report(both, query=[("group_by", "model"), ("period", "total")])
    paid, free = found["data"]

    assert paid["coverage"] == 1
    assert paid["gco2eq_per_1000_tokens"] > 0
    assert paid["gco2eq"]["range"]["min"] < paid["gco2eq"]["total"] < paid["gco2eq"]["range"]["max"]
    assert set(paid["sources"]) == {"modelled"}
    assert 0 < found["total"]["coverage"] <= 1
    assert free["cost"] == 0


async def test_users_see_their_own_usage(both: Installation) -> None:
    one = await use(both)

    mine = await report(both, REPORT, headers=one)
    all_of_it = await report(both)

    assert mine["total"]["requests"] == 3
    assert all_of_it["total"]["requests"] == 5
    forbidden = await both.client.get(ALL, headers=one)
    assert forbidden.status == 403
    (line,) = (await report(both, REPORT, headers=one, group_by="user"))["data"]
    asked = [await report(both, REPORT, headers=one, user_id=user) for user in (line["user_id"], line["user_id"] + 1)]
    assert [found["total"]["requests"] for found in asked] == [3, 0]
    assert asked[0]["total"] == mine["total"]


async def test_a_restated_record_counts_once(both: Installation) -> None:
    await use(both)
    old = (await both.rows(UsageRecordRow, UsageRecordRow.router_name == "paid"))[0]
    before = await report(both)
    values = old.model_dump() | {"id": "0" * 26, "supersedes": old.id, "operational_ng": old.operational_ng + 1000}
    async with both.state.database.transaction() as session:
        session.add(UsageRecordRow(**values))

    after = await report(both)

    assert after["total"]["attempts"] == before["total"]["attempts"]
    difference = after["total"]["gco2eq"]["operational"] - before["total"]["gco2eq"]["operational"]
    assert round(difference * 10**9) == 1000


async def test_a_report_comes_as_csv(sluice: Installation) -> None:
    await use(sluice)

    response = await sluice.get(f"{ALL}?group_by=model&period=month", headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(await response.text())))

    assert response.content_type == "text/csv"
    assert [row["model"] for row in rows] == ["paid", "simulator"]
    assert float(rows[0]["gco2eq_range_max"]) > 0
    assert [float(rows[0][f"sources_{source}"]) for source in ("measured", "modelled", "none")] == [0, 1, 0]
    empty = await sluice.get(f"{ALL}?since=2020-01-01&until=2020-01-01", headers={"Accept": "text/csv"})
    assert (await empty.text()).strip() == ",".join(rows[0])


async def test_a_report_of_one_provider_has_no_charges(both: Installation) -> None:
    await use(both)
    paid = (await both.rows(UsageRecordRow, UsageRecordRow.router_name == "paid"))[0].provider_id

    found = await report(both, query={"provider_id": str(paid), "group_by": "model", "period": "month"})

    (line,) = found["data"]
    records = await both.rows(UsageRecordRow, UsageRecordRow.provider_id == paid)
    assert (line["model"], line["attempts"], line["charge"], line["requests"]) == ("paid", len(records), None, None)


async def test_an_organization_has_a_report_of_its_own(both: Installation) -> None:
    await use(both)
    records = [row for row in await both.rows(UsageRecordRow) if row.organization_id is not None]

    found = await report(both, query={"organization_id": str(records[0].organization_id), "group_by": "user"})

    assert found["total"]["attempts"] == len(records)
    assert {line["user_id"] for line in found["data"]} == {record.user_id for record in records}


async def reader(installation: Installation, email: str, organization: int | None = None) -> dict[str, str]:
    """Return the headers of a new user who may read the usage of his organization."""
    role = await create(installation, ROLES, name=email, permissions=["read_organization_usage"])
    user = await add_user(installation, email, role=role["id"], organization=organization)
    return await key_of(installation, user["id"])


async def test_who_may_reads_what_was_charged_to_his_organization(both: Installation) -> None:
    await use(both)
    (organization,) = {row.organization_id for row in await both.rows(ChargeRow)} - {None}
    headers = await reader(both, "reader@example.com", organization)
    records = await both.rows(UsageRecordRow, UsageRecordRow.organization_id == organization)
    charges = await both.rows(ChargeRow, ChargeRow.organization_id == organization)

    for group_by in ([], ["user"], ["organization"], ["key", "model"], ["provider"]):
        found = await report(both, OF_ORGANIZATION, headers=headers, query=[("group_by", one) for one in group_by])
        total = found["total"]
        assert round(total["cost"] * MICRO) == sum(record.cost_micros for record in records)
        assert round(total["kwh"] * 10**12) == sum(record.energy_nwh for record in records)
        assert total["attempts"] == sum(line["attempts"] for line in found["data"]) == len(records)
        if group_by != ["provider"]:
            assert round(total["charge"] * MICRO) == sum(charge.amount_micros for charge in charges) > 0
            assert total["requests"] == sum(line["requests"] for line in found["data"]) == len(charges)
    as_csv = await both.client.get(OF_ORGANIZATION, headers=headers | {"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(await as_csv.text())))
    assert sum(round(float(row["charge"]) * MICRO) for row in rows) == sum(charge.amount_micros for charge in charges)


async def test_usage_stays_with_the_organization_that_paid(both: Installation) -> None:
    one = await use(both)
    (old,) = {row.organization_id for row in await both.rows(ChargeRow)} - {None}
    new = (await create(both, ORGANIZATIONS, name="another"))["id"]
    user = (await both.rows(ChargeRow, ChargeRow.organization_id == old))[0].user_id
    assert (await both.patch(f"{USERS}/{user}", {"organization": new})).status == 204
    readers = [await reader(both, f"{number}@example.com", number) for number in (old, new)]

    before = [await report(both, OF_ORGANIZATION, headers=headers) for headers in readers]
    assert (await both.chat(headers=one)).status == 200
    after = [await report(both, OF_ORGANIZATION, headers=headers) for headers in readers]

    assert [found["total"]["requests"] for found in before] == [3, 0]
    assert [found["total"]["requests"] for found in after] == [3, 1]
    asked_for_old = await report(both, OF_ORGANIZATION, headers=readers[1], query={"organization_id": str(old)})
    assert (asked_for_old["data"], asked_for_old["total"]["requests"]) == ([], 0)


async def test_nobody_else_reads_the_usage_of_an_organization(sluice: Installation) -> None:
    one = await use(sluice)
    homeless = await reader(sluice, "homeless@example.com")

    forbidden = await sluice.client.get(OF_ORGANIZATION, headers=one)

    assert (forbidden.status, (await forbidden.json())["error"]["code"]) == (403, "permission_denied")
    assert (await sluice.client.get(OF_ORGANIZATION)).status == 401
    for headers in (homeless, sluice.headers):  # the master belongs to none, either
        assert (await sluice.client.get(OF_ORGANIZATION, headers=headers)).status == 404


async def test_a_key_for_inference_reads_no_usage(sluice: Installation) -> None:
    organization = (await create(sluice, ORGANIZATIONS, name="o"))["id"]
    role = await create(sluice, ROLES, name="readers", permissions=["read_organization_usage"])
    user = await add_user(sluice, "reader@example.com", role=role["id"], organization=organization)

    statuses = [
        (await sluice.client.get(OF_ORGANIZATION, headers=await key_of(sluice, user["id"], scopes=[scope]))).status
        for scope in ("inference", "jobs")
    ]

    assert statuses == [403, 200]


async def test_restated_records_count_once_everywhere(both: Installation) -> None:
    one = await use(both)
    paths = ("/v1/usage", "/v1/me/usage", "/v1/request_logs")
    job = next(row for row in await both.rows(UsageRecordRow) if row.router_name == "paid").job_id
    paths = (*paths, f"/v1/jobs/job_{job}/attempts")

    async def read() -> list[Any]:
        return [await (await both.client.get(path, headers=one)).json() for path in paths]

    before = await read()
    for old in await both.rows(UsageRecordRow):
        async with both.state.database.transaction() as session:
            session.add(UsageRecordRow(**old.model_dump() | {"id": new_ulid(), "supersedes": old.id}))

    assert await read() == before


async def test_closes_are_read_as_they_were_made(both: Installation) -> None:
    one = await use(both)
    long_ago = update(UsageRecordRow).values(created_ms=month_bounds("2026-01")[0])
    async with both.state.database.transaction() as session:
        await session.exec(long_ago)
    made = await close_month(both.state.database, "2026-01", now_ms())

    listed = await (await both.get(CLOSES)).json()
    found = await both.get(f"{CLOSES}/2026-01")

    assert await found.read() == encode(made)
    assert [(row["month"], row["revision"], row["records"]) for row in listed["data"]] == [("2026-01", 1, 5)]
    assert (await (await both.get(f"{CLOSES}?month=2026-02")).json())["total"] == 0
    statuses = [(await both.get(f"{CLOSES}/{path}")).status for path in ("2026-02", "2026-01?revision=2", "x")]
    assert statuses == [404, 404, 404]
    assert (await both.get(f"{CLOSES}?month=x")).status == 422
    assert (await both.client.get(CLOSES, headers=one)).status == 403


async def test_days_outside_are_empty(sluice: Installation) -> None:
    await use(sluice)

    found = await report(sluice, query={"since": "2020-01-01", "until": "2020-01-31"})

    assert (found["data"], found["total"]["requests"], found["total"]["coverage"]) == ([], 0, None)


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=2026-02-30", "since=2026-02-02&until=2026-02-01", "since=1900-01-01", "period=week",
     "group_by=colour", "nothing=1", "user_id=x"],
)  # fmt: skip
async def test_impossible_reports_are_refused(sluice: Installation, query: str) -> None:
    response = await sluice.get(f"{ALL}?{query}")

    assert (response.status, (await response.json())["error"]["code"]) == (422, "invalid_request")
