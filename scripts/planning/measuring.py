"""What one request costs, by the loads of scripts/bench: CPU of each component, commits, bytes in database and Redis.

CPU is that of all processes from the first request of a load to the end of its last job, divided by the jobs.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import machine
import uvloop
from accept import run_drain, submit
from chat import LOADS, gateway_of
from http1 import Connection, encode
from installation import CHAT_BODY, POSTGRESQL, Installation, open_installation, open_without_worker
from load import Load
from machine import BenchError
from measure import KINDS, Setup, measure
from redis import Redis

from shared.database import create_engine

CHUNKS = 40
_CHUNK_DELAY_MS = 20
_RUNNING, _SLOTS = 720, 1000
"""Jobs that nobody waits for leave a quarter of the slots to others."""
_RUN_MS = 20_000
PATIENT = {"accept_patience_s": 5}
"""What costs are is to be found out, also on a machine where a commit waits for strangers longer than callers like."""
_LOOK_S = 8.0
_BODY = json.loads(CHAT_BODY)
_PACED = _BODY | {"stream": True, "simulator": {"text": " ".join(["word"] * CHUNKS), "chunk_delay_ms": _CHUNK_DELAY_MS}}
MEASURED = {
    "chat": LOADS["chat-64"],
    "stream": LOADS["stream-32"],
    "simulated": Load(name="simulated", body=CHAT_BODY, connections=64, expected='"content"'),
    "paced": Load(
        name="paced", body=json.dumps(_PACED).encode(), connections=128, expected='" word"', times=CHUNKS - 1,
        is_stream=True,
    ),
    "accepted": Load(
        name="accept-64", body=CHAT_BODY, connections=64, expected='"status":"queued"',
        headers={"Prefer": "respond-async"},
    ),
}  # fmt: skip
"""`simulated` and `paced` differ by chunks that come one by one, as those of a model do; others are scripts/bench's."""
_TABLE_BYTES = """SELECT CASE WHEN relname LIKE 'request_logs%' THEN 'request_logs' ELSE relname END AS name,
    sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    GROUP BY 1"""
_WRITES = """SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint FROM pg_stat_database
    WHERE datname = current_database()"""
_FILE_BYTES = "SELECT (SELECT * FROM pragma_page_count) * (SELECT * FROM pragma_page_size)"
_PROCESSES = {"api": "-m api", "worker": "-m worker "}
"""Kind → words of its command line."""
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What all that was done so far has cost."""

    at: float
    jobs: int
    cpu_s: Mapping[str, float]
    """By kind of process; `load` is the load generator and the provider."""
    redis_bytes: int
    commits: int | None
    wal_bytes: int | None
    table_bytes: dict[str, int] = field(default_factory=dict)


def measure_database(database: str, setup: Setup, jobs: int) -> dict[str, Any]:
    """Return all figures of one database; `jobs` are queued to be weighed, and drained."""
    with open_installation(database, setup.postgres, upstream_url=setup.upstream_url, **PATIENT) as installation:
        weigh(installation, MEASURED["chat"], setup)  # buffers and caches grow once
        memory_bytes = weigh_memory(installation)
        idle_s = {kind: used_s / _LOOK_S for kind, used_s in _used_s(installation).items()}
        loads = {name: weigh(installation, load, setup, idle_s) for name, load in MEASURED.items()}
        connections = count_connections(installation)
    return {
        "loads": loads,
        "connections": connections,
        "memory_bytes": memory_bytes,
        "idle_us_per_s": {f"{kind}_us": round(share * 1e6) for kind, share in sorted(idle_s.items())},
        "running_us_per_s": measure_running(database, setup),
        "redis_bytes_per_waiting_job": measure_waiting(database, setup, jobs),
        "drained_per_core_s": run_drain(database, setup, jobs, **PATIENT)[0]["per_core_s"],
    }


def weigh(
    installation: Installation, load: Load, setup: Setup, idle_s: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return what a request of this load costs, in microseconds and bytes; without `idle_s` of each second, by kind."""
    before, gateway = _read(installation), gateway_of(installation)
    samples = [measure(gateway, load, setup.effort) for _ in range(setup.rounds)]
    after = _read(installation)
    if errors := sum(sample.result.errors for sample in samples):
        raise BenchError(f"{load.name}: {errors} errors")
    jobs, seconds = after.jobs - before.jobs, after.at - before.at
    idle_us = {kind: share * seconds / jobs * 1e6 for kind, share in (idle_s or {}).items()}
    per_s = sum(sample.result.requests for sample in samples) / sum(sample.result.seconds for sample in samples)
    machine.say(f"{load.name} {installation.database}: {per_s:.0f}/s")
    tables = {name: (size - before.table_bytes.get(name, 0)) / jobs for name, size in after.table_bytes.items()}
    return {
        **{
            f"{kind}_us": round((after.cpu_s[kind] - before.cpu_s[kind]) / jobs * 1e6 - idle_us.get(kind, 0), 1)
            for kind in (*KINDS, "load")
            if kind in after.cpu_s
        },
        "commits": _per(jobs, after.commits, before.commits, 3),
        "wal_bytes": _per(jobs, after.wal_bytes, before.wal_bytes),
        "table_bytes": {name: round(size) for name, size in sorted(tables.items()) if size >= 1},
        "redis_bytes": _per(jobs, after.redis_bytes, before.redis_bytes),
        "jobs": jobs,
        "per_s": round(per_s, 1),
        "others_percent": round(sum(sample.others_share for sample in samples) / len(samples) * 100, 1),
    }


def _per(jobs: int, after: float | None, before: float | None, digits: int = 1) -> float | None:
    return None if after is None or before is None else round((after - before) / jobs, digits)


def _read(installation: Installation) -> _Reading:
    """Read every meter, and look whether each job has ended and was charged."""
    time.sleep(1.1)  # so long PostgreSQL's figures may lag
    totals = installation.ledger.count()
    if not totals.jobs == totals.finished == totals.charges or totals.completed < totals.jobs * 0.98:
        raise BenchError(f"not every job has ended as it should: {totals}")  # those of callers cut off are cancelled
    cpu_s = machine.cpu_s_by_kind(installation.roots)
    ours_s = machine.cpu_s(process.pid for process in installation.processes)
    with Redis(unix_socket_path=str(installation.redis_socket)) as redis:
        redis_bytes = int(redis.info("memory")["used_memory"])
    is_postgresql = installation.database == POSTGRESQL
    commits, wal_bytes = installation.ledger.row(_WRITES) if is_postgresql else (None, None)
    sizes = installation.ledger.rows(_TABLE_BYTES if is_postgresql else f"SELECT 'all', ({_FILE_BYTES})")
    return _Reading(
        at=time.perf_counter(),
        jobs=totals.jobs,
        cpu_s={**cpu_s, "load": machine.cpu_s([os.getpid()]) - ours_s},
        redis_bytes=redis_bytes,
        commits=commits,
        wal_bytes=wal_bytes,
        table_bytes={str(name): int(size) for name, size in sizes},
    )


def weigh_memory(installation: Installation) -> dict[str, int]:
    """Return the resident bytes of an api and of a worker process, libraries that they share counted in each."""
    found = {kind: machine.find(installation.roots, words) for kind, words in _PROCESSES.items()}
    return {kind: round(sum(stat.rss_mb for stat in stats) / len(stats) * 2**20) for kind, stats in found.items()}


def count_connections(installation: Installation) -> dict[str, int | None]:
    """Return the open connections of one api and one worker process after load, and the most a process may open."""
    with Redis(unix_socket_path=str(installation.redis_socket)) as redis:
        redis_open = int(redis.info("clients")["connected_clients"]) - 1  # this one
    if installation.database != POSTGRESQL:
        return {"redis_open": redis_open, "database_open": None, "database_most_of_process": None}
    pool: Any = create_engine(installation.database_url).pool
    most = pool.size() + pool._max_overflow + 1  # noqa: SLF001  # and the writer's
    return {
        "redis_open": redis_open,
        "database_open": int(installation.ledger.row(_CONNECTIONS)[0]),
        "database_most_of_process": most,
    }


def measure_running(database: str, setup: Setup) -> dict[str, float]:
    """Return the CPU microseconds per second that a job costs while its provider thinks, by kind of process."""
    with open_installation(database, setup.postgres, worker_slots=_SLOTS, **PATIENT) as installation:
        idle_s = _used_s(installation)
        uvloop.run(_run_slowly(installation))
        ledger = installation.ledger
        running = "SELECT count(*) FROM jobs WHERE status = 'in_progress'"
        machine.wait_until("all jobs run", lambda: ledger.row(running)[0] == _RUNNING, _RUN_MS / 2500)
        busy_s = _used_s(installation)
        if (left := ledger.row(running)[0]) != _RUNNING:
            raise BenchError(f"only {left} of {_RUNNING} jobs were still running")
        ledger.wait_until_done(_RUN_MS / 500)
    return {
        f"{kind}_us": round(max(busy_s[kind] - idle_s[kind], 0) / _RUNNING / _LOOK_S * 1e6, 1)
        for kind in sorted({*busy_s} & {*KINDS})
    }


def _used_s(installation: Installation) -> Mapping[str, float]:
    before = machine.cpu_s_by_kind(installation.roots)
    time.sleep(_LOOK_S)
    return {kind: used_s - before[kind] for kind, used_s in machine.cpu_s_by_kind(installation.roots).items()}


async def _run_slowly(installation: Installation) -> None:
    body = json.dumps(_BODY | {"simulator": {"delay_ms": _RUN_MS}}).encode()
    headers = {"Content-Type": "application/json", "Prefer": "respond-async", **installation.headers}
    request = encode("POST", f"{installation.url}/chat/completions", headers, body)
    connections = [Connection(installation.url) for _ in range(_RUNNING // 20)]
    for _ in range(_RUNNING // len(connections)):
        responses = await asyncio.gather(*(connection.send(request) for connection in connections))
        if refused := [response.status for response in responses if response.status != 202]:
            raise BenchError(f"jobs were refused: {refused}")
    for connection in connections:
        connection.close()


def measure_waiting(database: str, setup: Setup, jobs: int) -> float:
    """Return the bytes of Redis per job that waits in the queue."""
    with (
        open_without_worker(database, setup.postgres, **PATIENT) as installation,
        Redis(unix_socket_path=str(installation.redis_socket)) as redis,
    ):
        before = int(redis.info("memory")["used_memory"])
        uvloop.run(submit(installation, jobs))
        return round((int(redis.info("memory")["used_memory"]) - before) / jobs, 1)


def others_of(figures: Mapping[str, Any]) -> Iterator[float]:
    """Yield the share of the cores that strangers had, in percent, of each load."""
    for one in figures["databases"].values():
        yield from (load["others_percent"] for load in one["loads"].values())
