"""CO2e of a month: refused before it is too much, counted whoever caused it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from shared.admission.tables import CarbonAccountRow
from shared.usage.tables import UsageRecordRow
from tests.conftest import make_settings
from tests.installation import Installation, open_installation, run_workers
from tests.payers import PRICES, buy, holds, payer
from tests.people import INFO, ORGANIZATIONS, USERS, changed, create, read
from tests.servers import RedisServer
from tests.waiting import eventually


@pytest_asyncio.fixture
async def both(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Installation]:
    """An installation with a model that costs one micro-unit per token, on each database in turn."""
    options = make_settings(tmp_path, redis_server, database_url=prepared_url, accept_patience_s=0.5)
    async with open_installation(options) as installation:
        await installation.add_model("paid", prices=PRICES, model_total_params=70, model_hosting_zone="FRA")
        yield installation


async def test_emissions_of_the_month_count_even_before_the_budget_was_set(both: Installation) -> None:
    user_id, me = await payer(both, None)
    await buy(both, me, 100)
    emitted_ng = sum(row.operational_ng + row.embodied_ng for row in await both.rows(UsageRecordRow))
    grams = emitted_ng / 10**9

    await changed(both, f"{USERS}/{user_id}", {"carbon_budget": round(grams * 1.5, 3)})
    refusal = await eventually(lambda: refused_for_carbon(both, me))

    answer = await refusal.json()
    assert answer["error"]["code"] == "carbon_budget_exceeded"
    assert int(refusal.headers["retry-after"]) > 0
    assert (await buy(both, me, 1)).status == 200
    account = (await both.rows(CarbonAccountRow))[0]
    info = await read(both, INFO, headers=me)
    assert abs(info["carbon_budget"] - account.emitted_ug / 10**6 - info["carbon_budget_remaining"]) < 0.002
    total_ng = sum(row.operational_ng + row.embodied_ng for row in await both.rows(UsageRecordRow))
    assert abs(account.emitted_ug * 1000 - total_ng) < 2000


async def refused_for_carbon(installation: Installation, me: dict[str, str]) -> Any:
    answer = await buy(installation, me, 100)
    return answer if answer.status == 429 else None


async def test_parallel_requests_never_exceed_a_carbon_budget(both: Installation) -> None:
    _, me = await payer(both, None, carbon_budget=0.1)

    answers = await asyncio.gather(*(buy(both, me, 40) for _ in range(60)))

    emitted_ng = sum(row.operational_ng + row.embodied_ng for row in await both.rows(UsageRecordRow))
    statuses = {answer.status for answer in answers}
    assert statuses == {200, 429}
    assert emitted_ng <= 0.1 * 10**9
    shown = [answer.headers["x-carbon-budget-remaining"] for answer in answers if answer.status == 200]
    assert all(0 <= float(grams) <= 0.1 for grams in shown)


async def test_emissions_count_that_were_made_between_two_carbon_budgets(both: Installation) -> None:
    tenant = await create(both, ORGANIZATIONS, name="tenant", carbon_budget=1000)
    user_id, me = await payer(both, None, organization=tenant["id"], carbon_budget=1000)
    paths = [f"{USERS}/{user_id}", f"{ORGANIZATIONS}/{tenant['id']}"]
    assert (await buy(both, me, 10)).status == 200
    for path in paths:
        await changed(both, path, {"carbon_budget": None})
    assert "x-carbon-budget-remaining" not in (await buy(both, me, 200)).headers

    for path in paths:
        await changed(both, path, {"carbon_budget": 1000})
    await buy(both, me, 10)

    emitted_ng = sum(row.operational_ng + row.embodied_ng for row in await both.rows(UsageRecordRow))
    accounts = await both.rows(CarbonAccountRow)
    assert len(accounts) == 2
    assert all(abs(account.emitted_ug * 1000 - emitted_ng) < 3000 for account in accounts)


async def test_emissions_of_an_attempt_that_was_broken_off_count_at_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    options = make_settings(tmp_path, redis_server, drain_s=0.1)
    async with open_installation(options, workers=False) as installation:
        await installation.add_model("paid", prices=PRICES, model_total_params=70, model_hosting_zone="FRA")
        _, me = await payer(installation, None, carbon_budget=1000)
        async with run_workers(options):  # they leave while the stream runs
            later = me | {"Prefer": "respond-async"}
            slow = {"tokens": 500, "chunk_delay_ms": 20}
            job = await installation.chat(model="paid", max_tokens=500, stream=True, simulator=slow, headers=later)
            await asyncio.sleep(0.5)
        job_id = job.headers["x-job-id"]
        await installation.post(f"/v1/jobs/{job_id}/cancel", headers=me)

        answer = await installation.chat(model="paid", max_tokens=1, headers=me | {"Prefer": "respond-async"})

        (record,) = await installation.rows(UsageRecordRow)
        emitted_g = (record.operational_ng + record.embodied_ng) / 10**9
        held_g = max(float(amount) for amount in (await open_amounts(installation)).values()) / 10**6
        assert emitted_g > 0
        assert abs(1000 - emitted_g - held_g - float(answer.headers["x-carbon-budget-remaining"])) < 0.00001


async def open_amounts(installation: Installation) -> dict[bytes, bytes]:
    (account,) = await installation.rows(CarbonAccountRow)
    return await holds(installation, account.name)
