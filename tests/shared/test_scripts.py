"""The Lua scripts say what they take, give and keep; and what a claim carries."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from arq import ArqRedis
from arq.jobs import deserialize_job_raw

import shared.queue
from shared.queue.connections import open_pool
from shared.queue.job_queue import JobQueue
from shared.queue.jobs import Claim, NewJob
from shared.queue.lanes import PLATFORM, open_lane
from shared.queue.lua import Outcome, QueueScripts, Wanted
from tests.servers import RedisServer

SCRIPTS = sorted((Path(shared.queue.__file__).parent / "scripts").glob("*.lua"))
LEASE_MS = 60_000
WANTED = Wanted(jobs=10, can_wait=10, slots=10, share=3.0, weights=(8, 4, 1))


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.stem != "prelude"], ids=lambda path: path.stem)
def test_every_script_states_its_contract(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("-- ")]

    assert header[0].startswith(f"-- {path.stem}: ")
    for word in ("KEYS", "ARGV", "returns", "keeps"):
        assert any(line.split()[1] == word for line in header), f"{path.name} does not state its {word}"


@pytest_asyncio.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[ArqRedis]:
    redis = open_lane(open_pool(redis_server.url), PLATFORM)
    yield redis
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
def queue(redis: ArqRedis) -> JobQueue:
    return JobQueue(redis)


@pytest_asyncio.fixture
async def scripts(redis: ArqRedis) -> QueueScripts:
    scripts = QueueScripts(redis, PLATFORM)
    await scripts.load()
    return scripts


async def claim_all(scripts: QueueScripts, token: str) -> list[Claim]:
    return (await scripts.claim(token, LEASE_MS, WANTED)).claims


async def settled(redis: ArqRedis, scripts: QueueScripts, job_id: str, token: str) -> bool:
    """Record that the job has ended; returns whether the outcome was accepted."""
    outcome = Outcome(job_id=job_id, token=token, epoch="", script="finish", arguments=(b"", "", ""))
    async with redis.pipeline(transaction=False) as pipeline:
        await scripts.settle(outcome, pipeline)
        [accepted] = await pipeline.execute()
    return bool(accepted)


async def test_a_claim_carries_the_payload_and_the_tenant(
    redis: ArqRedis, queue: JobQueue, scripts: QueueScripts
) -> None:
    await queue.ensure([NewJob(job_id="full", function="f", args=(1, "two"), group="r1")])

    [claim] = await claim_all(scripts, "me")

    function, args, *_ = deserialize_job_raw(claim.payload, deserializer=redis.job_deserializer)
    assert (claim.job_id, claim.place, function, list(args)) == ("full", "0:r1", "f", [1, "two"])


async def test_a_claim_of_a_job_whose_payload_is_lost_has_none(
    redis: ArqRedis, queue: JobQueue, scripts: QueueScripts
) -> None:
    await queue.ensure([NewJob(job_id=job_id, function="f") for job_id in ("lost", "kept")])
    await redis.delete("arq:job:lost")

    payloads = {claim.job_id: claim.payload for claim in await claim_all(scripts, "me")}

    assert payloads["lost"] == b""
    assert payloads["kept"] != b""


async def test_a_claimed_job_is_claimed_by_nobody_else_until_it_is_released(
    queue: JobQueue, scripts: QueueScripts
) -> None:
    await queue.ensure([NewJob(job_id=f"j{n}", function="f") for n in range(3)])
    assert len(await claim_all(scripts, "dead")) == 3

    assert await claim_all(scripts, "other") == []
    assert await queue.release("other", lease_s=LEASE_MS / 1000) == 0
    assert await queue.release("dead", lease_s=LEASE_MS / 1000) == 3
    assert [claim.job_id for claim in await claim_all(scripts, "other")] == ["j0", "j1", "j2"]


async def test_only_the_holder_of_a_lease_decides_about_its_job(
    redis: ArqRedis, queue: JobQueue, scripts: QueueScripts
) -> None:
    await queue.ensure([NewJob(job_id="j", function="f")])
    await claim_all(scripts, "holder")

    assert not await settled(redis, scripts, "j", "zombie")
    assert await queue.missing(["j"]) == []

    assert await settled(redis, scripts, "j", "holder")
    assert await queue.missing(["j"]) == ["j"]


async def test_a_renewal_names_the_leases_that_are_lost(queue: JobQueue, scripts: QueueScripts) -> None:
    await queue.ensure([NewJob(job_id=f"j{n}", function="f") for n in range(2)])
    claims = await claim_all(scripts, "slow")
    epoch, lost_at_first = await scripts.renew("slow", claims, LEASE_MS, "", 0)
    await queue.release("slow", lease_s=LEASE_MS / 1000)
    await claim_all(scripts, "other")

    same_epoch, lost = await scripts.renew("slow", claims, LEASE_MS, epoch, 0)

    assert (lost_at_first, same_epoch) == ([], epoch)
    assert sorted(lost) == ["j0", "j1"]


async def test_leases_are_taken_back_after_a_loss_of_data_unless_somebody_has_them(
    redis: ArqRedis, queue: JobQueue, scripts: QueueScripts
) -> None:
    jobs = [NewJob(job_id=job_id, function="f") for job_id in ("taken", "free")]
    await queue.ensure(jobs)
    claims = await claim_all(scripts, "first")
    epoch, _ = await scripts.renew("first", claims, LEASE_MS, "", 0)
    await redis.flushall()
    await queue.ensure(jobs[:1])
    await claim_all(scripts, "quick")

    new_epoch, lost = await scripts.renew("first", claims, LEASE_MS, epoch, 0)

    assert new_epoch != epoch
    assert lost == ["taken"]
    assert await queue.missing(["taken", "free"]) == []
