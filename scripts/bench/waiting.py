"""`waiting`: many callers who wait for slow answers; what that costs the api in memory, connections and CPU.

As many jobs as the worker has slots are answered late; the others wait in the queue behind them.  `accepted s` counts
until all are stored, `answered s` from the moment the slow ones are over.
"""

import asyncio
import json
import time

import machine
import uvloop
from http1 import Connection, Response, encode
from installation import CHAT_BODY, Installation, open_installation
from load import Load, is_right
from machine import BenchError
from measure import Row, Setup
from redis import Redis

_SLOTS = 256
_OPENING_AT_ONCE = 200
_FILES_LEFT = 1000
_OVER_WITHIN_S = 120.0
_LOOK_S = 3.0
_WAIT = Load(name="waiting", body=CHAT_BODY, connections=1, expected='"content"')


def run_waiting(database: str, setup: Setup, clients: int) -> list[Row]:
    """Let so many callers wait, look at the api, and see that all are answered."""
    allowed = machine.raise_file_limit() - _FILES_LEFT
    if clients > allowed:
        raise BenchError(f"waiting: open files allow {allowed} clients on this system, not {clients} (ulimit -n)")
    with open_installation(database, setup.postgres, worker_slots=_SLOTS) as installation:
        time.sleep(1)
        row = uvloop.run(_wait(installation, clients))
        installation.ledger.check()
    return [{"name": "waiting", "database": database, "gateway": "sluice", **row}]


async def _wait(installation: Installation, clients: int) -> Row:
    hold_s = 15 + clients // 500
    requests = [_request(installation, hold_s * 1000), _request(installation, 0)]
    rss_mb, redis_connections = installation.rss_mb("-m api"), _redis_connections(installation)
    connections = await _connect(installation, clients)
    connected_mb = installation.rss_mb("-m api")
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    answers = [
        loop.create_task(connection.send(requests[number >= _SLOTS], hold_s + _OVER_WITHIN_S))
        for number, connection in enumerate(connections)
    ]
    while (await asyncio.to_thread(installation.ledger.count)).jobs < clients + 1:  # one more was the first chat
        _check_that_all_wait(answers)
        await asyncio.sleep(0.5)
    accepted_s = time.perf_counter() - began
    cpu_s = sum(stat.cpu_s for stat in machine.find(installation.roots, "-m api"))
    await asyncio.sleep(_LOOK_S)
    cpu_s = sum(stat.cpu_s for stat in machine.find(installation.roots, "-m api")) - cpu_s
    waiting_mb, waiting_connections = installation.rss_mb("-m api"), _redis_connections(installation)
    _check_that_all_wait(answers)
    responses = await asyncio.gather(*answers)
    answered_s = time.perf_counter() - began - hold_s
    _check_answers(responses)
    for connection in connections:
        connection.close()
    return {
        "clients": clients,
        "api_mb_before": round(rss_mb),
        "api_mb_connected": round(connected_mb),
        "api_mb_waiting": round(waiting_mb),
        "kb_per_client": round((waiting_mb - rss_mb) * 1024 / clients, 1),
        "api_mb_after": round(installation.rss_mb("-m api")),
        "api_cpu_percent": round(cpu_s / _LOOK_S * 100),
        "redis_connections": redis_connections,
        "while_waiting": waiting_connections,
        "accepted_s": round(accepted_s, 1),
        "answered_s": round(answered_s, 1),
    }


def _request(installation: Installation, delay_ms: int) -> bytes:
    body = json.loads(CHAT_BODY) | {"simulator": {"delay_ms": delay_ms}}
    headers = {"Content-Type": "application/json", **installation.headers}
    return encode("POST", installation.url + _WAIT.path, headers, json.dumps(body).encode())


async def _connect(installation: Installation, clients: int) -> list[Connection]:
    """Open the connections, a few at a time, so that none is turned away."""
    connections = [Connection(installation.url) for _ in range(clients)]
    for first in range(0, clients, _OPENING_AT_ONCE):
        await asyncio.gather(*(connection.open() for connection in connections[first : first + _OPENING_AT_ONCE]))
    return connections


def _redis_connections(installation: Installation) -> int:
    with Redis(unix_socket_path=str(installation.redis_socket)) as redis:
        return int(redis.info("clients")["connected_clients"]) - 1  # this one


def _check_that_all_wait(answers: "list[asyncio.Task[Response]]") -> None:
    if early := sum(task.done() for task in answers):
        raise BenchError(f"waiting: {early} callers were answered before all of them waited")


def _check_answers(responses: list[Response]) -> None:
    wrong = [response for response in responses if not is_right(_WAIT, response)]
    if wrong:
        raise BenchError(f"waiting: {len(wrong)} wrong answers, e.g. {wrong[0].status} {wrong[0].body[:300]!r}")
