"""Processes are killed while they hold, charge and release money; afterwards charges and what is left add up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from msgspec import Struct

from shared.admission.records import money_account, organization_of, user_of
from shared.jobs.tables import JobRow
from shared.organizations.tables import OrganizationRow
from shared.usage.tables import ChargeRow
from shared.users.tables import UserRow
from tests.faults.processes import Processes, rows, submit, until_all_over
from tests.waiting import eventually

PASSWORD = "correct horse battery"
MODEL = "paid"


class Payer(Struct):
    """A user and his organization, who pay together."""

    user_id: int
    organization_id: int
    headers: dict[str, str]

    @property
    def accounts(self) -> list[str]:
        return [money_account(user_of(self.user_id)), money_account(organization_of(self.organization_id))]


@pytest_asyncio.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


async def add_payer(http: ClientSession, processes: Processes, micros: int) -> Payer:
    """Create a model that costs something, and a user and an organization with this budget each."""
    await processes.add_model(MODEL)

    async def create(path: str, **body: Any) -> Any:
        async with http.post(f"{processes.url}/v1/admin/{path}", json=body, headers=processes.headers) as response:
            assert response.status == 201, await response.text()
            return await response.json()

    async with http.get(processes.url + "/v1/admin/routers", headers=processes.headers) as response:
        router = next(one["id"] for one in (await response.json())["data"] if one["name"] == MODEL)
    role = await create("roles", name="payers", limits=[{"router": router, "type": "rpm", "value": None}])
    tenant = await create("organizations", name="tenant", budget=micros / 10**6)
    user = await create(
        "users", email="payer@example.com", password=PASSWORD, role=role["id"], organization=tenant["id"],
        budget=micros / 10**6,
    )  # fmt: skip
    key = await create("tokens", name="k", user=user["id"])
    return Payer(user["id"], tenant["id"], {"Authorization": f"Bearer {key['key']}"})


async def buy(http: ClientSession, processes: Processes, payer: Payer, tokens: int) -> int:
    """Send a chat that costs more than two micro-units per token; returns the status."""
    body = {
        "model": MODEL, "max_tokens": tokens, "messages": [{"role": "user", "content": "Hi"}],
        "simulator": {"tokens": tokens},
    }  # fmt: skip
    async with http.post(processes.url + "/v1/chat/completions", json=body, headers=payer.headers) as response:
        await response.read()
        return response.status


async def check_money(processes: Processes, payer: Payer, micros: int) -> None:
    """Charges and what is left are what was given; no job that is over holds anything."""
    await until_all_over(processes)
    spent = sum(charge.amount_micros for charge in await rows(processes, ChargeRow))
    user = next(row for row in await rows(processes, UserRow) if row.id == payer.user_id)
    tenant = next(row for row in await rows(processes, OrganizationRow) if row.id == payer.organization_id)
    assert (user.budget_micros, tenant.budget_micros) == (micros - spent, micros - spent)
    await eventually(lambda: not open_holds(processes, payer))


def open_holds(processes: Processes, payer: Payer) -> list[bytes]:
    """Return the jobs that hold something, and what their sums say if there are none."""
    found: list[bytes] = []
    with processes.redis() as redis:
        for account in payer.accounts:
            fields: Any = redis.hgetall(f"sluice:holds:{account}")
            jobs = [name for name in fields if name not in (b"=", b"*", b"#")]
            found += jobs or [name for name in (b"=", b"*") if fields.get(name, b"0") != b"0"]
    return found


@pytest.mark.parametrize("point", ["before_finish", "before_release", "after_finish"])
async def test_what_a_killed_worker_spent_is_not_spent_again(
    http: ClientSession, processes: Processes, point: str
) -> None:
    payer = await add_payer(http, processes, 40)
    processes.arm(point)

    first = await buy(http, processes, payer, 50)
    await eventually(lambda: not open_holds(processes, payer))
    second = await buy(http, processes, payer, 50)

    assert not processes.is_armed(point)
    assert (first, second) == (200, 400)
    await check_money(processes, payer, 40)


async def test_workers_that_are_killed_at_work_overspend_nothing(http: ClientSession, processes: Processes) -> None:
    payer = await add_payer(http, processes, 3000)
    headers = dict(processes.headers)
    processes.headers = payer.headers
    accepted = await submit(http, processes, 40, model=MODEL, tokens=20, delay_ms=200)
    for _ in range(3):
        processes.kill("-m worker")
        await asyncio.sleep(0.4)
        accepted += await submit(http, processes, 10, model=MODEL, tokens=20)
    processes.headers = headers

    assert accepted
    await check_money(processes, payer, 3000)


async def test_an_api_process_that_dies_after_the_admission_spends_nothing(
    http: ClientSession, processes: Processes
) -> None:
    payer = await add_payer(http, processes, 10_000)
    processes.headers, admin = payer.headers, processes.headers
    processes.arm("before_accept")
    assert await submit(http, processes, 1, model=MODEL) == []
    processes.headers = admin
    await eventually(processes.serves)
    assert not processes.is_armed("before_accept")
    assert await rows(processes, JobRow) == []
    assert len(open_holds(processes, payer)) == 2

    a_minute_passes(processes, payer)
    status = await eventually(lambda: buy(http, processes, payer, 10))

    assert status == 200
    await check_money(processes, payer, 10_000)


def a_minute_passes(processes: Processes, payer: Payer) -> None:
    """Make what is held look old, and have the accounts read again, as they are after some time."""
    with processes.redis() as redis:
        for account in payer.accounts:
            fields: Any = redis.hgetall(f"sluice:holds:{account}")
            for job in fields.keys() - {b"=", b"*", b"#"}:
                redis.hset(f"sluice:holds:{account}", "0" * 26, fields[job])
                redis.hdel(f"sluice:holds:{account}", job)
            redis.delete(f"sluice:account:{account}")


async def test_an_api_process_that_dies_after_the_commit_charges_once(
    http: ClientSession, processes: Processes
) -> None:
    payer = await add_payer(http, processes, 10_000)
    processes.headers, admin = payer.headers, processes.headers
    processes.arm("after_accept")
    assert await submit(http, processes, 1, model=MODEL, tokens=10) == []
    processes.headers = admin
    await eventually(processes.serves)

    await check_money(processes, payer, 10_000)
    assert [charge.amount_micros > 0 for charge in await rows(processes, ChargeRow)] == [True]
