"""Money: held at admission, settled with the result, never overspent; room in the queue."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.admission.gate import Released
from shared.admission.records import Admission, money_account, organization_of, user_of
from shared.jobs.tables import JobRow
from shared.organizations.tables import OrganizationRow
from shared.usage.tables import UsageRecordRow
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.payers import PRICES, buy, holds, left, payer, spent
from tests.people import INFO, ORGANIZATIONS, USERS, changed, create, read, refused
from tests.providers import ScriptedProvider, says, usage
from tests.servers import RedisServer
from tests.waiting import eventually

POOR = (400, "Insufficient budget.")


@pytest_asyncio.fixture
async def both(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Installation]:
    """An installation with a model that costs one micro-unit per token, on each database in turn."""
    options = make_settings(tmp_path, redis_server, database_url=prepared_url, accept_patience_s=0.5)
    async with open_installation(options) as installation:
        await installation.add_model("paid", prices=PRICES, model_total_params=70, model_hosting_zone="FRA")
        yield installation


async def test_a_charge_lowers_the_budget_in_the_transaction_of_the_result(both: Installation) -> None:
    user_id, me = await payer(both, 10_000)

    answer = await buy(both, me, 10)

    cost = round((await answer.json())["usage"]["cost"] * 10**6)
    assert cost == (await answer.json())["usage"]["total_tokens"]
    assert await left(both, user_id) == 10_000 - cost
    assert (await read(both, INFO, headers=me))["budget"] == (10_000 - cost) / 10**6
    assert await holds(both, money_account(user_of(user_id))) == {}
    next_answer = await buy(both, me, 10)
    assert float(next_answer.headers["x-budget-remaining"]) < (10_000 - cost) / 10**6


async def test_an_empty_budget_buys_nothing_but_free_models(both: Installation) -> None:
    _, me = await payer(both, 0)

    paid, free = await buy(both, me), await both.chat(headers=me)

    assert await refused(paid) == POOR
    assert (await paid.json())["error"]["code"] == "insufficient_budget"
    assert free.status == 200


async def test_a_budget_for_one_request_pays_for_one_of_fifty(both: Installation) -> None:
    user_id, me = await payer(both, 1)

    answers = await asyncio.gather(*(buy(both, me, 50) for _ in range(50)))

    statuses = [answer.status for answer in answers]
    assert (statuses.count(200), statuses.count(400)) == (1, 49)
    assert await spent(both) == 1
    assert await left(both, user_id) == 0


async def test_the_charge_is_never_more_than_what_was_left(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = says("Long.", reported=usage(5000, 5000))
    await both.add_model("talkative", provider.url, prices=PRICES)
    user_id, me = await payer(both, 70)

    statuses = [(await both.chat(model="talkative", max_tokens=10, headers=me)).status for _ in range(2)]

    assert statuses == [200, 400]
    assert await spent(both) == 70
    assert await left(both, user_id) == 0
    assert sum(row.cost_micros for row in await both.rows(UsageRecordRow)) == 10_000


async def test_organization_and_user_pay_together_and_the_tighter_one_decides(both: Installation) -> None:
    tenant = await create(both, ORGANIZATIONS, name="tenant", budget=0.000_05)
    first, me = await payer(both, 10_000, organization=tenant["id"])
    _, other = await payer(both, None, "other@example.com", organization=tenant["id"])

    one = await buy(both, me, 10)
    two = await buy(both, other, 200)
    three = await buy(both, me, 10)

    row = (await both.rows(OrganizationRow, OrganizationRow.id == tenant["id"]))[0]
    assert (one.status, two.status) == (200, 200)
    assert await refused(three) == POOR
    assert row.budget_micros == 0
    assert await spent(both) == 50
    assert await left(both, first) == 10_000 - round((await one.json())["usage"]["cost"] * 10**6)


async def test_a_failed_and_a_cancelled_job_release_what_they_held(both: Installation) -> None:
    user_id, me = await payer(both, 100_000)

    failed = await both.chat(model="paid", simulator={"fail": "400"}, max_tokens=10, headers=me)
    later = await both.chat(
        model="paid", max_tokens=10, simulator={"delay_ms": 20_000}, headers=me | {"Prefer": "respond-async"}
    )
    job_id = (await later.json())["id"]
    assert len(await holds(both, money_account(user_of(user_id)))) == 1
    await both.post(f"/v1/jobs/{job_id}/cancel", headers=me)

    assert failed.status == 400
    await eventually(lambda: is_empty(both, user_id))
    assert await left(both, user_id) == 100_000
    assert await spent(both) == 0


async def is_empty(installation: Installation, user_id: int) -> bool:
    return await holds(installation, money_account(user_of(user_id))) == {}


async def test_a_new_budget_holds_at_once(both: Installation) -> None:
    user_id, me = await payer(both, 0)
    assert (await buy(both, me)).status == 400

    await changed(both, f"{USERS}/{user_id}", {"budget": 1})
    richer = await buy(both, me)
    await changed(both, f"{USERS}/{user_id}", {"budget": 0})
    poorer = await buy(both, me)

    assert (richer.status, poorer.status) == (200, 400)


async def test_a_redis_that_lost_everything_knows_budget_and_holds_again(both: Installation) -> None:
    user_id, me = await payer(both, 1000)
    await both.chat(model="paid", max_tokens=10, simulator={"delay_ms": 3000}, headers=me | {"Prefer": "respond-async"})
    before = await holds(both, money_account(user_of(user_id)))
    assert len(before) == 1

    await both.state.redis.flushall()
    answer = await buy(both, me, 10)

    after = await holds(both, money_account(user_of(user_id)))
    assert before.items() <= after.items() or answer.status == 400
    await eventually(lambda: all_over(both), within_s=20)
    assert await spent(both) + (await left(both, user_id) or 0) == 1000


async def all_over(installation: Installation) -> bool:
    return all(row.finished_ms is not None for row in await installation.rows(JobRow))


async def test_a_hold_of_a_job_that_is_long_over_ends_when_the_account_is_read_again(both: Installation) -> None:
    user_id, me = await payer(both, 10_000)
    account = money_account(user_of(user_id))
    assert (await buy(both, me)).status == 200
    redis = both.state.redis
    await redis.hset(f"sluice:holds:{account}", mapping={"0" * 26: 9000, "=": 9000, "*": 1})  # left by a killed process
    await redis.delete(f"sluice:account:{account}")

    answer = await buy(both, me)

    assert answer.status == 200
    assert float(answer.headers["x-budget-remaining"]) > 0
    assert await holds(both, account) == {}


async def test_nobody_is_refused_for_long_because_of_a_hold_that_a_killed_process_left(both: Installation) -> None:
    user_id, me = await payer(both, 10_000)
    account = money_account(user_of(user_id))
    assert (await buy(both, me)).status == 200
    held = {"0" * 26: 10_000, "=": 10_000, "*": 1}
    await both.state.redis.hset(f"sluice:holds:{account}", mapping=held)

    answer = await buy(both, me)

    assert answer.status == 200
    assert await holds(both, account) == {}


async def test_a_job_that_could_not_be_stored_holds_and_counts_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    options = make_settings(tmp_path, redis_server, accept_patience_s=0.2)
    async with open_installation(options) as installation:
        router_id = (await installation.add_model("paid", prices=PRICES))["router_id"]
        user_id, me = await payer(installation, 100_000)
        await installation.grant(router_id, rpm=10)
        assert (await buy(installation, me)).status == 200
        locker = sqlite3.connect(tmp_path / "data" / "sluice.db", isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")

        refusal = await buy(installation, me)

        assert refusal.status == 503
        locker.execute("ROLLBACK")  # only now it is known
        locker.close()
        await eventually(lambda: is_empty(installation, user_id))
        assert await installation.state.redis.hget(f"sluice:limits:{user_id}:{router_id}", "mr") == b"1"


async def test_a_tenant_has_only_so_many_unfinished_jobs(tmp_path: Path, redis_server: RedisServer) -> None:
    options = make_settings(tmp_path, redis_server, accept_patience_s=0.5, tenant_max_jobs=3)
    async with open_installation(options, workers=False) as installation:
        tenant = await create(installation, ORGANIZATIONS, name="tenant")
        _, me = await payer(installation, None, organization=tenant["id"])
        _, colleague = await payer(installation, None, "colleague@example.com", organization=tenant["id"])
        _, stranger = await payer(installation, None, "stranger@example.com")
        later = {"Prefer": "respond-async"}

        mine = [await installation.chat(headers=me | later) for _ in range(3)]
        fourth = await installation.chat(headers=colleague | later)
        other = await installation.chat(headers=stranger | later)
        await installation.post(f"/v1/jobs/{mine[0].headers['x-job-id']}/cancel", headers=me)
        fifth = await installation.chat(headers=colleague | later)

        assert [answer.status for answer in mine] == [202, 202, 202]
        assert (fourth.status, (await fourth.json())["error"]["code"]) == (429, "queue_full")
        assert int(fourth.headers["retry-after"]) >= 1
        assert (other.status, fifth.status) == (202, 202)


requests = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from(["ok", "400", "stream", "cancel"])), min_size=100, max_size=300
)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(budget=st.integers(0, 4000), asked=requests, limits=st.integers(1, 300))
def test_whatever_runs_at_once_the_ledger_and_the_budget_add_up(
    tmp_path_factory: Any, session_redis: RedisServer, budget: int, asked: list[tuple[int, str]], limits: int
) -> None:
    folder = tmp_path_factory.mktemp("property")

    async def run() -> None:
        options = make_settings(folder, session_redis, accept_patience_s=0.5)
        async with open_installation(options) as installation:
            await installation.state.redis.flushall()
            provider = await installation.add_model("paid", prices=PRICES)
            await installation.grant(provider["router_id"], rpd=limits)
            user_id, me = await payer(installation, budget)
            answers = await asyncio.gather(*(one(installation, me, *what) for what in asked))
            await eventually(lambda: all_over(installation), within_s=30)
            await eventually(lambda: is_empty(installation, user_id))
            rest = await left(installation, user_id)
            assert rest is not None
            assert rest >= 0
            assert await spent(installation) + rest == budget
            jobs = len(await installation.rows(JobRow))
            assert jobs == sum(status not in (429, 400) for status in answers) + await failures(installation)
            assert jobs <= limits

    asyncio.run(run())


async def failures(installation: Installation) -> int:
    return len(await installation.rows(JobRow, JobRow.status == "failed"))


async def one(installation: Installation, me: dict[str, str], tokens: int, what: str) -> int:
    """Send one request of the property test; returns its status."""
    simulator: dict[str, Any] = {"tokens": tokens} | ({"fail": "400"} if what == "400" else {})
    headers = me | ({"Prefer": "respond-async"} if what == "cancel" else {})
    async with installation.client.post(
        "/v1/chat/completions",
        json={
            "model": "paid",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": tokens,
            "stream": what == "stream",
            "simulator": simulator,
        },
        headers=headers,
    ) as response:
        await response.read()
        if what == "cancel" and response.status == 202:
            await installation.post(f"/v1/jobs/{response.headers['x-job-id']}/cancel", headers=me)
        return int(response.status)


async def test_an_account_is_read_while_its_jobs_end(both: Installation) -> None:
    user_id, me = await payer(both, 10**6)
    account = money_account(user_of(user_id))
    gate, stop = both.state.admissions.gate, asyncio.Event()

    async def end_jobs() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await gate.settle(f"{number:026}", Admission(admitted_ms=0), [Released(account, 10**6, 0)])

    ending = asyncio.ensure_future(end_jobs())
    answer = await buy(both, me)

    stop.set()
    await ending
    assert answer.status == 200


async def test_a_job_is_charged_where_it_began_wherever_its_user_goes(both: Installation) -> None:
    old, new = [await create(both, ORGANIZATIONS, name=name, budget=0.01) for name in ("old", "new")]
    user_id, me = await payer(both, 10_000, organization=old["id"])
    later = me | {"Prefer": "respond-async"}
    for _ in range(2):
        await both.chat(model="paid", max_tokens=10, simulator={"tokens": 10, "delay_ms": 700}, headers=later)

    await changed(both, f"{USERS}/{user_id}", {"organization": new["id"]})
    assert (await both.delete(f"{USERS}/{user_id}")).status == 204
    await eventually(lambda: all_over(both))

    spent_micros = await spent(both)
    budgets = {row.name: row.budget_micros for row in await both.rows(OrganizationRow)}
    assert spent_micros > 0
    assert (budgets["old"], budgets["new"]) == (10_000 - spent_micros, 10_000)
    for owner in (user_of(user_id), organization_of(old["id"])):
        assert await eventually(lambda owner=owner: has_no_hold(both, money_account(owner)))


async def has_no_hold(installation: Installation, account: str) -> bool:
    return await holds(installation, account) == {}


async def test_a_budget_that_is_changed_while_jobs_run_is_what_is_left_of_the_last_one(both: Installation) -> None:
    user_id, me = await payer(both, 10**6)

    async def change() -> None:
        for number in range(20):
            await changed(both, f"{USERS}/{user_id}", {"budget": number % 3})

    await asyncio.gather(change(), *(buy(both, me, 20) for _ in range(60)))
    await eventually(lambda: is_empty(both, user_id))
    before = await spent(both)
    await changed(both, f"{USERS}/{user_id}", {"budget": 0.001})
    answers = await asyncio.gather(*(buy(both, me, 50) for _ in range(60)))

    rest = await left(both, user_id)
    assert {answer.status for answer in answers} == {200, 400}
    assert rest == 1000 - (await spent(both) - before)
