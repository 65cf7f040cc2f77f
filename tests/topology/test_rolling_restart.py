"""Every part is replaced while callers call, and none of them sees it."""

import asyncio

import pytest

from tests.faults.invariants import check_ledger, statuses_of
from tests.servers import PostgresServer, TcpRedisServer
from tests.topology.callers import Callers
from tests.topology.parts import Topology

pytestmark = pytest.mark.timeout(180)
MODEL = "costly"


async def test_no_request_fails_while_every_api_and_every_worker_is_replaced(topology: Topology) -> None:
    await topology.add_model(MODEL)
    callers = Callers(topology, MODEL)

    async def replace_all() -> None:
        for port in topology.ports:
            await topology.replace_api(port)
        for place in range(3):
            await topology.replace_worker(place)

    await callers.run(replace_all())

    assert callers.failures == []
    assert all(callers.counts.values()), callers.counts
    ledger = await check_ledger(topology, callers.accepted)
    assert statuses_of(ledger, callers.accepted) == {"completed"}
    assert all(len(attempts) == 1 for attempts in ledger.attempts.values()), "somebody's work was done twice"


async def test_stock_clients_get_every_answer_while_redis_and_postgresql_start_anew(
    topology: Topology, own_postgres: PostgresServer, own_tcp_redis: TcpRedisServer
) -> None:
    await topology.add_model(MODEL)
    callers = Callers(topology, MODEL, retries=8, streams=False)

    async def restart_both() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(own_tcp_redis.kill)
        await asyncio.to_thread(own_tcp_redis.start)
        await asyncio.sleep(2)
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.to_thread(own_postgres.start)
        await asyncio.sleep(3)

    await callers.run(restart_both())

    plain = [failure for failure in callers.failures if failure.startswith("plain")]
    assert plain == []
    await check_ledger(topology, callers.accepted)
