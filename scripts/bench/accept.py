"""Jobs that nobody waits for: how fast they are accepted (`accept-64`), and how fast they are done (`drain`).

The provider is the simulator, which answers at once, so that what is measured is Sluice.
"""

import asyncio

import machine
import uvloop
from chat import gateway_of
from http1 import Connection, encode
from installation import CHAT_BODY, Installation, open_installation, open_without_worker, start_worker
from load import Load, is_right
from machine import BenchError
from measure import Row, Setup, measure, summarize

_CONNECTIONS = 64
_DRAIN_WITHIN_S = 300.0
_ACCEPT = Load(
    name="accept-64",
    body=CHAT_BODY,
    connections=_CONNECTIONS,
    expected='"status":"queued"',
    headers={"Prefer": "respond-async"},
)


def run_accept(database: str, setup: Setup) -> list[Row]:
    """Measure accepted jobs per second, while a worker runs them and with no worker at all.

    With a worker, `cpu_s_per_1000` is that of the whole job, and `done_per_s` counts until the last one is done.
    """
    with open_installation(database, setup.postgres) as installation:
        gateway = gateway_of(installation)
        samples = [measure(gateway, _ACCEPT, setup.effort, counts_rest=True) for _ in range(setup.rounds)]
        installation.ledger.check()
    beside = summarize(_ACCEPT.name, gateway, samples)
    taken_s = sum(sample.result.seconds + sample.settle_s for sample in samples)
    beside |= {"worker": "beside", "done_per_s": round(sum(one.result.requests for one in samples) / taken_s, 1)}
    with open_without_worker(database, setup.postgres) as installation:
        gateway = gateway_of(installation, settles=False)
        samples = [measure(gateway, _ACCEPT, setup.effort) for _ in range(setup.rounds)]
        accepted, stored = sum(sample.result.requests for sample in samples), installation.ledger.count().jobs
    if stored < accepted:
        raise BenchError(f"{accepted} jobs were accepted, {stored} are in the database")
    alone = summarize(_ACCEPT.name, gateway, samples)
    return [beside, alone | {"worker": "none", "done_per_s": None}]


def run_drain(database: str, setup: Setup, jobs: int, **settings: object) -> list[Row]:
    """Let so many jobs wait, then start a worker; the rate is that from the first finished job to the last."""
    with open_without_worker(database, setup.postgres, **settings) as installation:
        uvloop.run(submit(installation, jobs))
        if (stored := installation.ledger.count().jobs) != jobs:
            raise BenchError(f"{jobs} jobs were accepted, {stored} are in the database")
        ledger = installation.ledger
        start_worker(installation)
        machine.wait_until("the worker finishes a job", lambda: ledger.span().jobs > 0, 30, 0.05)
        before, cpu_s = ledger.span().jobs, machine.cpu_s(installation.roots)
        if before == jobs:
            raise BenchError(f"{jobs} jobs were done before they could be watched; let more of them wait")
        ledger.wait_until_done(_DRAIN_WITHIN_S)
        cpu_s = machine.cpu_s(installation.roots) - cpu_s
        span = ledger.span()
        ledger.check()
    cpu_s_per_1000 = cpu_s / (span.jobs - before) * 1000
    row: Row = {
        "name": "drain",
        "database": database,
        "gateway": "sluice",
        "jobs": span.jobs,
        "per_s": round(span.jobs / span.ms * 1000, 1),
        "cpu_s_per_1000": round(cpu_s_per_1000, 3),
        "per_core_s": round(1000 / cpu_s_per_1000, 1),
    }
    return [row]


async def submit(installation: Installation, jobs: int) -> None:
    """Have so many jobs accepted; raises `BenchError` if one is refused."""
    headers = {"Content-Type": "application/json", **installation.headers, **_ACCEPT.headers}
    request = encode("POST", installation.url + _ACCEPT.path, headers, _ACCEPT.body)
    numbers = iter(range(jobs))

    async def keep_submitting() -> None:
        connection = Connection(installation.url)
        for _ in numbers:
            response = await connection.send(request)
            if not is_right(_ACCEPT, response):
                raise BenchError(f"a job was refused: {response.status} {response.body[:300]!r}")
        connection.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CONNECTIONS):
            tasks.create_task(keep_submitting())
