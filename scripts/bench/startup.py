"""`idle`: how long `scripts/run` takes to its first answered chat, and what an installation uses while nobody asks."""

import time
from statistics import median

import machine
from installation import start_as_users_do
from machine import ALL_CORES, SERVER_CORES
from measure import Row, Setup

_REST_S = 2.0
_LOOK_S = 5.0


def run_idle(database: str, setup: Setup) -> list[Row]:
    """Start it on all cores and on one, in turn; the files are in the page cache."""
    times_s: dict[frozenset[int], list[float]] = {ALL_CORES: [], SERVER_CORES: []}
    sizes: Row = {}
    for _ in range(setup.rounds):
        for cores, found in times_s.items():
            with start_as_users_do(database, setup.postgres, cores) as (installation, seconds):
                found.append(seconds)
                if not sizes and cores == SERVER_CORES:
                    time.sleep(_REST_S)
                    used_s = machine.cpu_s(installation.roots)
                    time.sleep(_LOOK_S)
                    used_s = machine.cpu_s(installation.roots) - used_s
                    sizes = {
                        "api_mb": round(installation.rss_mb("-m api")),
                        "worker_mb": round(installation.rss_mb("-m worker ")),
                        "supervisor_mb": round(installation.rss_mb("worker.supervisor")),
                        "redis_mb": round(installation.rss_mb("redis-server")),
                        "idle_cpu_percent": round(used_s / _LOOK_S * 100, 1),
                    }
    starts = {
        "first_answer_s": round(median(times_s[ALL_CORES]), 2),
        "first_answer_one_core_s": round(median(times_s[SERVER_CORES]), 2),
    }
    return [{"name": "idle", "database": database, "gateway": "sluice", **starts, **sizes}]
