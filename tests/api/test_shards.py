"""Organizations in different Redis servers: whose jobs are where, and what one of them feels of the other."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.admission.records import money_account, organization_of
from shared.jobs.tables import JobRow
from shared.organizations.tables import OrganizationRow
from shared.settings import Settings, SettingsError, load_settings
from tests.batches import chat_line, send_batch, to_jsonl
from tests.conftest import make_settings
from tests.figures import metrics, of
from tests.installation import Installation, open_installation, run_workers
from tests.payers import PRICES, buy, left, payer, spent
from tests.people import ORGANIZATIONS, USERS, add_user, changed, create, key_of, read
from tests.receivers import Receiver
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.webhooks import LOOPBACK, add_endpoint

Tenant = tuple[int, dict[str, str]]
"""Organization and headers of its user."""


def settings_of(tmp_path: Path, first: RedisServer, second: RedisServer, url: str) -> Settings:
    return make_settings(tmp_path, first, database_url=url, shard_redis_urls=second.url, **LOOPBACK)


@pytest_asyncio.fixture
async def sharded(
    tmp_path: Path, redis_server: RedisServer, own_redis: RedisServer, prepared_url: str
) -> AsyncIterator[Installation]:
    """An installation with two shards and workers for each, on each database in turn."""
    settings = settings_of(tmp_path, redis_server, own_redis, prepared_url)
    async with open_installation(settings) as installation, run_workers(settings, 1):
        await installation.add_model("paid", prices=PRICES)
        yield installation


@pytest_asyncio.fixture
async def waiting(
    tmp_path: Path, redis_server: RedisServer, own_redis: RedisServer, prepared_url: str
) -> AsyncIterator[Installation]:
    """The same without workers."""
    settings = settings_of(tmp_path, redis_server, own_redis, prepared_url)
    async with open_installation(settings, workers=False) as installation:
        yield installation


async def tenant(installation: Installation, name: str, **members: Any) -> Tenant:
    organization = await create(installation, ORGANIZATIONS, name=name, **members)
    user = await add_user(installation, f"{name}@example.com", organization=organization["id"])
    return organization["id"], await key_of(installation, user["id"])


async def shards_of_jobs(installation: Installation) -> dict[int | None, set[int]]:
    """Return the shards of all jobs by their organization."""
    found: dict[int | None, set[int]] = {}
    for row in await installation.rows(JobRow):
        found.setdefault(row.organization_id, set()).add(row.shard)
    return found


async def test_a_new_organization_goes_where_the_fewest_are(waiting: Installation) -> None:
    created = [await create(waiting, ORGANIZATIONS, name=name) for name in ("a", "b", "c")]
    chosen = await create(waiting, ORGANIZATIONS, name="d", shard=1)

    assert [one["shard"] for one in created] == [1, 0, 1]  # `default` is in the first
    assert chosen["shard"] == 1
    answer = await waiting.post(ORGANIZATIONS, {"name": "e", "shard": 2})
    assert (answer.status, (await answer.json())["error"]["message"]) == (422, "There are 2 shards.")


async def test_jobs_wait_in_the_redis_of_their_organization(waiting: Installation) -> None:
    first, second = await tenant(waiting, "first", shard=0), await tenant(waiting, "second", shard=1)
    for organization, me in (first, second, second):
        assert (await waiting.chat(headers=me | {"Prefer": "respond-async"})).status == 202, organization

    async def depths() -> list[int]:
        return [await shard.queue.depth() for shard in waiting.state.shards]

    await eventually(lambda: _are(depths, [1, 2]))
    assert await shards_of_jobs(waiting) == {first[0]: {0}, second[0]: {1}}


async def _are(found: Any, expected: Any) -> bool:
    return bool(await found() == expected)


async def test_every_way_to_an_answer_leads_through_the_own_shard(sharded: Installation) -> None:
    organization, me = await tenant(sharded, "second", shard=1)

    plain = await sharded.chat("plain", headers=me)
    stream = await sharded.chat("streamed", stream=True, headers=me)
    text = await stream.text()
    keyed = [await sharded.chat("once", headers=me | {"Idempotency-Key": "k"}) for _ in range(2)]
    later = await sharded.chat("later", simulator={"delay_ms": 300}, headers=me | {"Prefer": "respond-async"})
    job = (await later.json())["id"]
    over = await (await sharded.get(f"/v1/jobs/{job}?wait=30", headers=me)).json()
    events = await (await sharded.get(f"/v1/jobs/{job}/events", headers=me)).text()

    assert plain.status == 200
    assert text.endswith("data: [DONE]\n\n")
    assert keyed[0].headers["x-job-id"] == keyed[1].headers["x-job-id"]
    assert over["status"] == "completed"
    assert "event: job.completed" in events
    assert await shards_of_jobs(sharded) == {organization: {1}}


async def test_an_administrator_follows_and_cancels_jobs_of_any_shard(sharded: Installation) -> None:
    _, me = await tenant(sharded, "second", shard=1)
    long = {"tokens": 2, "delay_ms": 20_000}
    running = await sharded.chat(simulator=long, headers=me | {"Prefer": "respond-async"})
    job = (await running.json())["id"]

    async def runs() -> bool:
        return bool((await sharded.job(job))["status"] == "in_progress")

    await eventually(runs)
    cancelled = await sharded.post(f"/v1/jobs/{job}/cancel")
    over = await (await sharded.get(f"/v1/jobs/{job}?wait=15")).json()

    assert cancelled.status == 200
    assert over["status"] == "cancelled"


async def test_a_batch_runs_and_tells_in_the_shard_of_its_owner(sharded: Installation, receiver: Receiver) -> None:
    organization, me = await tenant(sharded, "second", shard=1)
    await add_endpoint(sharded, receiver, "batch.completed", as_=me)

    lines = to_jsonl(*(chat_line(f"r{number}") for number in range(20)))
    batch = (await (await send_batch(sharded, lines, headers=me)).json())["id"]
    await eventually(lambda: receiver.received, within_s=30)

    done = await read(sharded, f"/v1/batches/{batch}", headers=me)
    assert done["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert receiver.received[0].body["data"]["id"] == batch
    assert await shards_of_jobs(sharded) == {organization: {1}}


async def test_who_is_in_another_shard_feels_nothing_of_a_lost_redis(
    sharded: Installation, own_redis: RedisServer
) -> None:
    (_, first), (_, second) = await tenant(sharded, "first", shard=0), await tenant(sharded, "second", shard=1)
    slow = {"tokens": 3, "delay_ms": 1500}
    later = second | {"Prefer": "respond-async"}
    answers = [await sharded.chat(f"number {number}", simulator=slow, headers=later) for number in range(5)]
    accepted = [(await answer.json())["id"] for answer in answers]
    own_redis.kill()

    async def is_refused() -> bool:
        answer = await sharded.chat(headers=second)
        return answer.status == 503 and (await answer.json())["error"]["code"] == "queue_unavailable"

    await eventually(is_refused)
    assert (await sharded.chat(headers=first)).status == 200
    assert (await sharded.client.get("/health")).status == 200
    assert (await sharded.get("/metrics")).status == 200
    own_redis.start()  # empty

    async def are_over() -> bool:
        jobs = [await sharded.job(job_id) for job_id in accepted]
        return all(job["status"] == "completed" for job in jobs)

    await eventually(are_over, within_s=30)
    assert (await sharded.chat(headers=second)).status == 200


async def test_the_budget_of_an_organization_is_exact_wherever_it_moves(sharded: Installation) -> None:
    organization, me = await tenant(sharded, "second", shard=1, budget=0.01)  # 10,000 tokens
    path = f"{ORGANIZATIONS}/{organization}"

    async def buy_some(count: int) -> list[int]:
        calls = (
            sharded.chat(model="paid", max_tokens=400, simulator={"tokens": 400}, headers=me) for _ in range(count)
        )
        return [answer.status for answer in await asyncio.gather(*calls)]

    bought = await buy_some(3)
    assert bought == [200] * 3
    running = sharded.chat(model="paid", max_tokens=5, simulator={"tokens": 5, "delay_ms": 500}, headers=me)
    task = asyncio.ensure_future(running)
    await eventually(lambda: _are(lambda: _count(sharded), 4))
    assert (await sharded.patch(path, {"shard": 0})).status == 409
    assert (await task).status == 200
    await changed(sharded, path, {"shard": 0})
    await eventually(lambda: _is_in(sharded, me, 0))
    bought += await buy_some(40)
    await changed(sharded, path, {"shard": 1})

    assert set(bought) == {200, 400}
    (row,) = await sharded.rows(OrganizationRow, OrganizationRow.id == organization)
    assert row.budget_micros is not None
    assert row.budget_micros + await spent(sharded) == 10_000
    assert row.budget_micros >= 0
    account = money_account(organization_of(organization))
    for shard in sharded.state.shards:
        held = await shard.redis.hgetall(f"sluice:holds:{account}")
        assert {job for job in held if len(job) > 1} == set(), shard.shard


async def _count(installation: Installation) -> int:
    return len(await installation.rows(JobRow))


async def _is_in(installation: Installation, me: dict[str, str], shard: int) -> bool:
    """Whether the api has learnt of the move."""
    answer = await installation.chat(headers=me)
    (row,) = await installation.rows(JobRow, JobRow.id == answer.headers["x-job-id"].removeprefix("job_"))
    return bool(row.shard == shard)


async def test_a_user_with_unfinished_jobs_stays_where_they_are(waiting: Installation) -> None:
    first, second = [await create(waiting, ORGANIZATIONS, name=f"o{shard}", shard=shard) for shard in (0, 1)]
    user = await add_user(waiting, organization=second["id"])
    me = await key_of(waiting, user["id"])
    job = (await (await waiting.chat(headers=me | {"Prefer": "respond-async"})).json())["id"]

    moving = {"organization": first["id"]}
    assert (await waiting.patch(f"{USERS}/{user['id']}", moving)).status == 409
    assert (await waiting.post(f"/v1/jobs/{job}/cancel")).status == 200
    await changed(waiting, f"{USERS}/{user['id']}", moving)


async def test_the_budget_of_a_user_is_exact_in_each_shard_he_comes_to(sharded: Installation) -> None:
    organizations = [(await create(sharded, ORGANIZATIONS, name=f"o{shard}", shard=shard))["id"] for shard in (0, 1)]
    user_id, me = await payer(sharded, 10_000, organization=organizations[0])
    statuses = set()
    for turn in range(4):
        shard = turn % 2
        await changed(sharded, f"{USERS}/{user_id}", {"organization": organizations[shard]})
        await eventually(lambda shard=shard: _is_in(sharded, me, shard))  # type: ignore[misc]
        answers = await asyncio.gather(*(buy(sharded, me, 400) for _ in range(10)))
        statuses |= {answer.status for answer in answers}

    assert statuses == {200, 400}
    rest = await left(sharded, user_id)
    assert rest is not None
    assert rest + await spent(sharded) == 10_000


async def test_what_was_answered_is_there_when_its_shard_has_gone(
    tmp_path: Path, redis_server: RedisServer, own_redis: RedisServer, prepared_url: str
) -> None:
    settings = settings_of(tmp_path, redis_server, own_redis, prepared_url)
    async with open_installation(settings) as sluice, run_workers(settings, 1):
        organization, me = await tenant(sluice, "second", shard=1)
        answer = await sluice.chat("kept", stream=True, headers=me | {"Idempotency-Key": "k"})
        job, text = answer.headers["x-job-id"], await answer.text()
        await changed(sluice, f"{ORGANIZATIONS}/{organization}", {"shard": 0})

    async with open_installation(make_settings(tmp_path, redis_server, database_url=prepared_url)) as sluice:
        assert (await sluice.get(f"/v1/jobs/{job}/result", headers=me)).status == 200
        again = await sluice.chat("kept", stream=True, headers=me | {"Idempotency-Key": "k"})
        assert await again.text() == text
        assert (await sluice.delete(f"/v1/jobs/{job}", headers=me)).status in {200, 204}


async def test_a_worker_has_to_know_its_shard(
    tmp_path: Path, redis_server: RedisServer, own_redis: RedisServer
) -> None:
    variables = {"SLUICE_REDIS_URL": redis_server.url, "SLUICE_SHARD_REDIS_URLS": own_redis.url}
    environ = {
        "PATH": os.environ["PATH"],
        "SLUICE_DATA_DIR": str(tmp_path),
        "SLUICE_ENCRYPTION_KEY": "k" * 20,
        **variables,
    }
    command = [sys.executable, "-m", "worker"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()

    assert (process.returncode, b"SLUICE_SHARD" in said) == (1, True)


def test_a_redis_is_one_shard() -> None:
    with pytest.raises(SettingsError, match="named twice"):
        load_settings({"SLUICE_REDIS_URL": "redis://a", "SLUICE_SHARD_REDIS_URLS": "redis://b, redis://a"})


async def test_a_list_in_another_order_is_refused(
    tmp_path: Path, redis_server: RedisServer, own_redis: RedisServer, prepared_url: str
) -> None:
    for first, second in ((redis_server, own_redis), (redis_server, own_redis)):
        async with open_installation(settings_of(tmp_path, first, second, prepared_url), workers=False):
            pass

    with pytest.raises(SettingsError, match=r"shard (0 is shard 1|1 is shard 0)"):
        async with open_installation(settings_of(tmp_path, own_redis, redis_server, prepared_url), workers=False):
            pass


async def test_figures_are_those_of_all_shards(sharded: Installation) -> None:
    for number, shard in enumerate((0, 1)):
        _, me = await tenant(sharded, f"t{number}", shard=shard)
        await sharded.chat(headers=me)

    async def are_told() -> bool:
        found = await metrics(sharded)
        return [of(found, "jobs_total", shard=shard) for shard in ("0", "1")] == [1, 1]

    await eventually(are_told)
    found = await metrics(sharded)
    assert of(found, "shard_up", shard="1") == 1
    assert of(found, "queue_ready", shard="1", lane="inference", band="interactive") == 0
    health = await read(sharded, "/v1/health")
    assert (health["components"]["redis"], health["components"]["workers"]) == ("ok", "ok")


async def test_a_shard_cannot_be_taken_away_from_its_organizations(
    tmp_path: Path, redis_server: RedisServer, own_redis: RedisServer, prepared_url: str
) -> None:
    async with open_installation(settings_of(tmp_path, redis_server, own_redis, prepared_url), workers=False) as one:
        await create(one, ORGANIZATIONS, name="second", shard=1)

    with pytest.raises(SettingsError, match="shard 1 is in use"):
        async with open_installation(make_settings(tmp_path, redis_server, database_url=prepared_url)):
            pass


async def test_the_limit_of_a_provider_is_divided(
    tmp_path: Path, redis_server: RedisServer, own_redis: RedisServer, prepared_url: str
) -> None:
    settings = settings_of(tmp_path, redis_server, own_redis, prepared_url)
    async with open_installation(settings) as sluice, run_workers(settings, 1) as second:
        for name, limit in (("three", 3), ("one", 1)):
            await sluice.add_model(name, qos_metric="inflight", qos_limit=limit)
        assert sluice.runtime is not None
        found = {}
        for name in ("three", "one"):
            routers = [await runtime.directory.find_router(name) for runtime in (sluice.runtime, second)]
            found[name] = [None if one is None else one.providers[0].most_attempts for one in routers]

    assert found == {"three": [2, 1], "one": [1, 1]}
