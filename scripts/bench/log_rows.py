"""Fill the request log, with a job and a record of the ledger for each attempt: as many rows as wanted, over some days.

PostgreSQL gets them by COPY, SQLite by `executemany`.  Everything is drawn from one seed, so runs are comparable.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice

import asyncpg

from shared.database import Database, postgres_dsn
from shared.ids import oldest_ulid
from shared.request_logs.partitions import DAYS_AHEAD, drop_partitions, make_partitions

DAY_MS = 86_400_000
USERS, KEYS, ORGANIZATIONS, MODELS, PROVIDERS = 200, 500, 20, 20, 40
_CHUNK = 20_000
_ENDPOINTS = ("/v1/chat/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/rerank")
_CODES = ("rate_limit_exceeded", "provider_unavailable", "provider_timeout", "context_length_exceeded")
COLUMNS = {
    "jobs": (
        "id", "kind", "endpoint", "status", "band", "stream", "user_id", "router_id", "router_name", "model",
        "price_prompt", "price_completion", "priority", "cost_estimate", "created_ms", "expires_ms", "timeout_s",
        "result_ttl_s", "max_attempts", "on_worker_lost", "cancel_when_unread", "request_id", "retry_count", "attempt",
        "version", "held", "background", "strict", "finished_ms", "result_expires_ms", "organization_id", "key_id",
    ),
    "request_logs": (
        "id", "job_id", "attempt", "status", "created_ms", "completed_ms", "request_id", "method", "endpoint",
        "http_status", "model", "router_id", "provider_id", "provider_type", "provider_model", "worker", "key_id",
        "user_id", "organization_id", "client_address", "user_agent", "streamed", "queue_ms", "ttft_ms", "latency_ms",
        "prompt_tokens", "completion_tokens", "is_estimated", "cost_micros", "error_code", "retry_count", "metadata",
        "batch_id",
    ),
    "usage_records": (
        "id", "supersedes", "job_id", "attempt", "status", "created_ms", "user_id", "organization_id", "key_id",
        "router_id", "provider_id", "router_name", "provider_model", "endpoint", "http_status", "prompt_tokens",
        "completion_tokens", "cached_tokens", "reasoning_tokens", "is_estimated", "latency_ms", "cost_micros",
        "energy_nwh", "energy_low_nwh", "energy_high_nwh", "operational_ng", "embodied_ng", "carbon_low_ng",
        "carbon_high_ng", "water_nl", "prefill_nwh", "zone", "zone_effective", "intensity_kg_per_kwh", "pue", "source",
        "method", "factors", "footprint_status",
    ),
}  # fmt: skip
Cell = str | int | float | bool | None
Rows = dict[str, tuple[Cell, ...]]


def attempts(count: int, first_ms: int, until_ms: int) -> Iterator[Rows]:
    """Yield a row of each table for attempts that are spread evenly over this time."""
    draw = random.Random(9)  # noqa: S311
    for number in range(count):
        at_ms = first_ms + (until_ms - first_ms) * number // count
        yield _attempt(draw, number, at_ms)


def _attempt(draw: random.Random, number: int, at_ms: int) -> Rows:
    job_id = oldest_ulid(at_ms)[:10] + f"{number:016d}"
    log_id = job_id[:10] + f"{number:015d}1"
    key_id = int(KEYS * draw.random() ** 2) + 3
    user_id, organization_id = key_id % USERS + 3, key_id % ORGANIZATIONS + 2
    model_id = int(MODELS * draw.random() ** 2) + 1
    provider_id, model, endpoint = model_id * 2 + number % 2, f"model-{model_id}", _ENDPOINTS[number % 4]
    has_failed = draw.random() < 0.03
    status, http_status = ("failed", 503) if has_failed else ("succeeded", 200)
    prompt, completion, latency_ms = draw.randrange(1, 2000), draw.randrange(1, 500), draw.randrange(50, 9000)
    done_ms, request_id = at_ms + latency_ms, f"req_{job_id}"
    batch_id = None if number % 10 else f"{number // 50_000:026d}"
    return {
        "jobs": (
            job_id, "chat.completion", endpoint, "failed" if has_failed else "completed", 1, False, user_id, model_id,
            model, model, "0.6", "0.8", 0, 1.0, at_ms, at_ms + DAY_MS, 600, 2_592_000, 3, "retry", False, request_id, 0,
            1, 3, False, False, False, done_ms, done_ms + 30 * DAY_MS, organization_id, key_id,
        ),
        "request_logs": (
            log_id, job_id, 1, status, at_ms, done_ms, request_id, "POST", endpoint, http_status, model, model_id,
            provider_id, "openai", model, "w1", key_id, user_id, organization_id, "203.0.113.7", "OpenAI/Python 3.52.0",
            number % 3 == 0, 2, latency_ms // 4, latency_ms, prompt, completion, False, prompt + completion,
            _CODES[number % 4] if has_failed else None, 0, '{"run": "nightly"}' if number % 20 == 0 else None, batch_id,
        ),
        "usage_records": (
            job_id[:10] + f"{number:015d}2", "", job_id, 1, status, done_ms, user_id, organization_id, key_id, model_id,
            provider_id, model, model, endpoint, http_status, prompt, completion, 0, 0, False, latency_ms,
            prompt + completion, completion * 900, completion * 400, completion * 2100, completion * 37, completion * 8,
            completion * 20, completion * 90, completion * 5, prompt * 60, "FRA", "FRA", 0.04144, 1.2, "modelled",
            "ecologits-0.11", "2025", "ok",
        ),
    }  # fmt: skip


def fill(url: str, count: int, days: int) -> float:
    """Write so many attempts of the last days; returns the seconds it took."""
    began, until_ms = time.perf_counter(), time.time_ns() // 1_000_000
    made = attempts(count, until_ms - days * DAY_MS, until_ms)
    if url.startswith("sqlite:///"):
        _fill_sqlite(url.removeprefix("sqlite:///"), made)
    else:
        asyncio.run(_fill_postgres(url, made, until_ms, days))
    return time.perf_counter() - began


def _fill_sqlite(path: str, made: Iterator[Rows]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous=OFF", "cache_size=-500000"):
        connection.execute(f"PRAGMA {pragma}")
    inserts = {
        table: f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        for table, names in COLUMNS.items()
    }
    while chunk := list(islice(made, _CHUNK)):
        connection.execute("BEGIN IMMEDIATE")
        for table, insert in inserts.items():
            connection.executemany(insert, [rows[table] for rows in chunk])
        connection.execute("COMMIT")
    connection.execute("ANALYZE")
    connection.close()


async def _fill_postgres(url: str, made: Iterator[Rows], until_ms: int, days: int) -> None:
    database = Database(url)
    await drop_partitions(database, until_ms + 100 * DAY_MS)  # the first one holds everything until today
    for day in range(-days, 1, DAYS_AHEAD):
        await make_partitions(database, until_ms + day * DAY_MS)
    await make_partitions(database, until_ms)
    await database.close()
    connection = await asyncpg.connect(postgres_dsn(url))
    while chunk := list(islice(made, _CHUNK)):
        async with connection.transaction():
            for table, names in COLUMNS.items():
                lines = _lines([rows[table] for rows in chunk])
                await connection.copy_to_table(table, source=lines, columns=names, format="text")
    await connection.execute("VACUUM (ANALYZE)")
    await connection.close()


async def _lines(rows: list[tuple[Cell, ...]]) -> AsyncIterator[bytes]:
    yield "".join(["\t".join(["\\N" if cell is None else str(cell) for cell in row]) + "\n" for row in rows]).encode()
