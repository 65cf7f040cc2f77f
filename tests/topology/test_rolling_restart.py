"""Every part is replaced while callers call, and none of them sees it."""

import asyncio

import pytest

from tests.faults.invariants import (
    bare,
    check_attempts,
    check_jobs,
    check_ledger,
    check_outcomes,
    read_ledger,
    statuses_of,
)
from tests.faults.tenants import add_tenants
from tests.servers import PostgresServer, TcpRedisServer
from tests.topology.callers import Callers
from tests.topology.parts import Topology

pytestmark = pytest.mark.timeout(180)
MODEL = "costly"


async def replace_all(topology: Topology) -> None:
    for port in topology.ports:
        await topology.replace_api(port)
    for place in range(3):
        await topology.replace_worker(place)


async def test_no_request_fails_while_every_api_and_every_worker_is_replaced(topology: Topology) -> None:
    await topology.add_model(MODEL)
    callers = Callers(topology, MODEL)

    await callers.run(replace_all(topology))

    assert callers.failures == []
    assert all(callers.counts.values()), callers.counts
    ledger = await check_ledger(topology, callers.accepted)
    assert statuses_of(ledger, callers.accepted) == {"completed"}
    assert all(len(attempts) == 1 for attempts in ledger.attempts.values()), "somebody's work was done twice"


async def test_no_request_of_either_shard_fails_meanwhile(topology_of_two_shards: Topology) -> None:
    topology, is_over = topology_of_two_shards, asyncio.Event()
    tenants = await add_tenants(topology)
    first, second = (Callers(topology, "simulator", headers=tenants[shard]) for shard in (0, 1))

    async def replace() -> None:
        try:
            await replace_all(topology)
        finally:
            is_over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(first.run(replace()))
        group.create_task(second.run(is_over.wait()))

    assert first.failures + second.failures == []
    assert all(first.counts.values()), first.counts
    assert all(second.counts.values()), second.counts
    ledger = await read_ledger(topology)
    check_jobs(ledger, first.accepted | second.accepted)
    check_attempts(ledger)
    await check_outcomes(topology, ledger)
    for shard, callers in enumerate((first, second)):
        assert {ledger.jobs[bare(job_id)].shard for job_id in callers.accepted} == {shard}
    assert {job.status for job in ledger.jobs.values()} == {"completed"}
    assert all(len(attempts) == 1 for attempts in ledger.attempts.values())


async def test_patient_callers_get_every_answer_while_redis_and_postgresql_start_anew(
    topology: Topology, own_postgres: PostgresServer, own_tcp_redis: TcpRedisServer
) -> None:
    await topology.add_model(MODEL)
    callers = Callers(topology, MODEL, is_patient=True)

    async def restart_both() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(own_tcp_redis.kill)
        await asyncio.to_thread(own_tcp_redis.start)
        await asyncio.sleep(2)
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.to_thread(own_postgres.start)
        await asyncio.sleep(3)

    await callers.run(restart_both())

    assert callers.failures == []
    assert all(callers.counts.values()), callers.counts
    await check_ledger(topology, callers.accepted)
