"""PostgreSQL dies, or drops its connections, while the installation works; it goes on by itself."""

import asyncio
import random
from pathlib import Path

from shared.jobs.schemas import COMPLETED
from tests.faults.invariants import check_ledger, statuses_of
from tests.faults.processes import Processes
from tests.faults.schedule import cut_connections
from tests.faults.traffic import Traffic, random_calls, refusal
from tests.servers import PostgresServer

AWAY_S = 1.0


async def test_a_killed_postgresql_comes_back_and_nothing_is_lost(
    folder: Path, own_postgres: PostgresServer, own_database_url: str
) -> None:
    processes = Processes(folder, database_url=own_database_url, workers=2, api_processes=2)
    try:
        await processes.start()
        await processes.add_model("priced")
        traffic, children = Traffic(processes, "priced"), processes.children()
        calling = asyncio.ensure_future(traffic.run(random_calls(random.Random(1), 100), callers=10))
        await asyncio.sleep(1.0)

        await asyncio.to_thread(own_postgres.kill)
        refused = await refusal(processes)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(own_postgres.start)
        await calling

        assert refused == (503, "storage_unavailable")
        assert processes.children() == children
        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        assert statuses_of(ledger, traffic.accepted) == {COMPLETED}
    finally:
        await processes.close()


async def test_connections_that_are_cut_again_and_again_lose_nothing(folder: Path, own_database_url: str) -> None:
    processes = Processes(folder, database_url=own_database_url, workers=2, api_processes=2)
    try:
        await processes.start()
        await processes.add_model("priced")
        traffic, children = Traffic(processes, "priced"), processes.children()
        calling = asyncio.ensure_future(traffic.run(random_calls(random.Random(2), 80), callers=10))

        cut = 0
        while not calling.done():
            await asyncio.sleep(0.3)
            cut += await cut_connections(processes)
        await calling

        assert cut > 0
        assert processes.children() == children
        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        assert statuses_of(ledger, traffic.accepted) == {COMPLETED}
    finally:
        await processes.close()
