"""What an installation needs for so many requests a second, from what one request was measured to cost.

Everything here is arithmetic: no clock, no file, no network.  The figures of `figures.json` come from `scripts/capacity
measure`, the rest is what the command line says of the work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

COMPONENTS = ("api", "worker", "redis", "postgres")
REPLIES_KEPT_S = 600
"""What a reply had stays in Redis for this long after its end: `shared.replies.entries.RETENTION_S`."""
DAY_S = 86_400
UTILIZATION = 0.6
"""How full things may be, unless the command line says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What requests are like, and how full things may be."""

    stream_share: float
    """Of the requests that are streamed, a chunk per token."""
    async_share: float
    """Of the requests that nobody waits for, answered with 202.  What neither is, waits for a whole answer."""
    prompt_tokens: float
    tokens: float
    """Of an answer."""
    bytes_per_token: float
    """Of text: what the tables keep of prompt and answer."""
    latency_s: float
    """From the start of an attempt to the end of the provider's answer."""
    redis_gb: float
    """Memory of one Redis."""
    slots: int
    """Jobs that a worker process runs at the same time, `SLUICE_WORKER_SLOTS`."""
    days: float
    """How long requests, results and logs are kept."""
    tombstone_days: float
    """How long rows of jobs are kept after that."""
    utilization: float
    """Share of a core, of a worker's slots, or of the memory of a Redis, that may be in use."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What one rate needs.  Cores are those that work; processes, shards and cores to buy leave the rest free."""

    per_s: float
    cores: Mapping[str, float]
    """By component."""
    api_processes: int
    worker_processes: int
    api_gb: float
    """Resident memory of all of them."""
    worker_gb: float
    running: int
    """Jobs at their providers."""
    workers_for_cpu: int
    shards_for_cpu: int
    redis_shards: int
    redis_gb: float
    """Of all shards."""
    postgres_cores: int
    commits_per_s: float
    wal_mb_per_s: float
    database_connections: int
    redis_connections: int
    disk_gb_per_day: float
    disk_gb: float
    """Once as much is removed as comes; the ledger grows for ever."""
    ledger_gb_per_day: float


def cost_of(loads: Mapping[str, Any], work: Work) -> dict[str, float]:
    """Return what a request of this work costs on average: microseconds of the components, commits, bytes.

    A streamed chat costs a plain one and its chunks; a chunk costs what a load of slow chunks costs more than the
    same chats in one piece.  The measured prompts are short, hence the bytes of longer ones.

    >>> plain = dict.fromkeys(QUANTITIES, 10.0)
    >>> loads = {"chat": plain, "accepted": dict.fromkeys(QUANTITIES, 6.0), "simulated": plain,
    ...          "paced": dict.fromkeys(QUANTITIES, 50.0)}
    >>> work = Work(stream_share=0.5, async_share=0.25, prompt_tokens=0, tokens=80, bytes_per_token=5, latency_s=1,
    ...             redis_gb=1, slots=100, days=1, tombstone_days=1, utilization=0.5)
    >>> cost_of(loads, work)["api_us"]  # 0.25 x 6 + 0.75 x 10, and half of them have 80 chunks at (50 - 10) / 40
    49.0
    >>> cost_of(loads, work)["wal_bytes"]  # 0.25 x 6 + 0.75 x 10, and 80 tokens of 5 bytes
    409.0
    """
    plain, accepted = loads["chat"], loads["accepted"]
    text_bytes = (work.prompt_tokens + work.tokens) * work.bytes_per_token
    found = {}
    for name in QUANTITIES:
        found[name] = (1 - work.async_share) * _of(plain, name) + work.async_share * _of(accepted, name)
        found[name] += work.stream_share * work.tokens * of_chunk(loads, name)
    found["wal_bytes"] += text_bytes
    found["kept_bytes"] += text_bytes
    return found


_OF_CHUNKS = ("api_us", "worker_us", "redis_us", "redis_bytes")
_TABLES_OF = {
    "kept_bytes": ("jobs", "job_events", "job_results", "request_logs", "all"),
    "job_bytes": ("jobs", "job_events"),
    "ledger_bytes": ("usage_records", "charges"),
}
"""What grows with every job; `all` is the file of SQLite, ledger included."""
QUANTITIES = (*(f"{component}_us" for component in COMPONENTS), "commits", "wal_bytes", "redis_bytes", *_TABLES_OF)
CHUNKS = 40
"""Of an answer of the load `paced`."""


def of_chunk(loads: Mapping[str, Any], name: str) -> float:
    """Return what a chunk costs that comes alone; 0 of the database, which gets an answer as a whole.

    >>> of_chunk({"paced": {"redis_us": 500}, "simulated": {"redis_us": 100}}, "redis_us")
    10.0
    """
    if name not in _OF_CHUNKS:
        return 0.0
    return max(_of(loads["paced"], name) - _of(loads["simulated"], name), 0) / CHUNKS


def _of(load: Mapping[str, Any], name: str) -> float:
    """Return a figure of a load, or the sum of its tables."""
    if name in _TABLES_OF and "table_bytes" in load:
        return float(sum(load["table_bytes"].get(table, 0) for table in _TABLES_OF[name]))
    return float(load.get(name) or 0)


def size_of(figures: Mapping[str, Any], work: Work, per_s: float) -> Size:
    """Return what `per_s` requests a second need, of the figures of one database.

    Api and worker processes have a core each, as has a Redis; PostgreSQL may have many.  A job whose provider thinks
    costs renewals of its lease, and a slot of a worker.  Processes ask Redis and PostgreSQL for news without any work.
    """
    cost, free = cost_of(figures["loads"], work), 1 / work.utilization
    running = per_s * work.latency_s
    renewing = figures["running_us_per_s"]
    cores = {
        name: (per_s * cost[f"{name}_us"] + running * renewing.get(f"{name}_us", 0.0)) / 1e6 for name in COMPONENTS
    }
    api, workers_for_cpu = _whole(cores["api"] * free), _whole(cores["worker"] * free)
    workers = max(workers_for_cpu, _whole(running / work.slots * free))
    for name in ("redis", "postgres"):
        cores[name] += (api + workers) / 2 * figures["idle_us_per_s"].get(f"{name}_us", 0.0) / 1e6
    shards_for_cpu = _whole(cores["redis"] * free)
    redis_of_process = ceil(figures["connections"]["redis_open"] / 2)
    redis_gb = (per_s * REPLIES_KEPT_S * cost["redis_bytes"] + running * waiting_bytes(figures, work)) / 1e9
    shards = max(shards_for_cpu, _whole(redis_gb / work.redis_gb * free))
    workers = max(workers, shards)  # each serves one shard
    resident = figures["memory_bytes"]
    return Size(
        per_s=per_s,
        cores=cores,
        api_processes=api,
        worker_processes=workers,
        api_gb=api * resident["api"] / 1e9,
        worker_gb=workers * resident["worker"] / 1e9,
        running=round(running),
        workers_for_cpu=workers_for_cpu,
        shards_for_cpu=shards_for_cpu,
        redis_shards=shards,
        redis_gb=redis_gb,
        postgres_cores=_whole(cores["postgres"] * free),
        commits_per_s=per_s * cost["commits"],
        wal_mb_per_s=per_s * cost["wal_bytes"] / 1e6,
        database_connections=(api + workers) * (figures["connections"]["database_most_of_process"] or 0),
        redis_connections=(api + ceil(workers / shards)) * redis_of_process,
        disk_gb_per_day=per_s * DAY_S * cost["kept_bytes"] / 1e9,
        disk_gb=per_s * DAY_S * (cost["kept_bytes"] * work.days + cost["job_bytes"] * work.tombstone_days) / 1e9,
        ledger_gb_per_day=per_s * DAY_S * cost["ledger_bytes"] / 1e9,
    )


def _whole(number: float) -> int:
    """Return the next whole number, at least 1; what is only above one by rounding is not the next.

    >>> _whole(0.2), _whole(3.0000000001), _whole(3.1)
    (1, 3, 4)
    """
    return max(1, ceil(round(number, 6)))


def waiting_bytes(figures: Mapping[str, Any], work: Work) -> float:
    """Return what a job in the queue takes of Redis: its message with the prompt, and its place."""
    measured: float = figures["redis_bytes_per_waiting_job"]
    return measured + work.prompt_tokens * work.bytes_per_token


def redis_ends_at(figures: Mapping[str, Any], work: Work, share: float) -> float:
    """Return the requests per second at which one Redis uses this share of its core.

    >>> loads = {name: dict.fromkeys(QUANTITIES, 90.0) for name in ("chat", "accepted", "simulated", "paced")}
    >>> work = Work(stream_share=0, async_share=0, prompt_tokens=0, tokens=0, bytes_per_token=0, latency_s=5,
    ...             redis_gb=1, slots=1, days=1,
    ...             tombstone_days=1, utilization=1)
    >>> redis_ends_at({"loads": loads, "running_us_per_s": {"redis_us": 2.0}}, work, 0.5)  # 90 + 5 x 2 us each
    5000.0
    """
    us = cost_of(figures["loads"], work)["redis_us"] + work.latency_s * figures["running_us_per_s"]["redis_us"]
    return share * 1e6 / us


def cost_us(load: Mapping[str, Any]) -> float:
    """Return the CPU of one request of a load, its generator and provider included.

    >>> cost_us({"api_us": 300, "worker_us": 400, "redis_us": 100, "load_us": 200, "per_s": 7})
    1000
    """
    total: float = sum(load.get(f"{name}_us", 0) for name in (*COMPONENTS, "load"))
    return total
