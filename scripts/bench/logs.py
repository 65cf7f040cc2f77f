"""The request log, `logs`: filters in a window of 15 minutes, exports, and what writing it costs a chat."""

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

import log_rows
import machine
import uvloop
from chat import LOADS, gateway_of
from http1 import Connection, encode
from installation import Installation, open_installation
from log_rows import DAY_MS, KEYS, MODELS, ORGANIZATIONS, PROVIDERS, USERS
from machine import BenchError
from measure import Gateway, Row, Sample, Setup, measure, summarize

_WINDOW_S = 900
_WITHOUT_LOGS = Path(__file__).parent / "without_logs"
_FORMATS = {
    "NDJSON": "application/x-ndjson",
    "CSV": "text/csv",
    "Parquet": "application/vnd.apache.parquet",
}
_POLICIES = ("none", "metadata", "full")


def run_logs(database: str, setup: Setup, count: int, days: int, lookups: int, exported: int) -> list[Row]:
    """Measure filters and exports on a log of so many rows, over so many days.

    The CPU time of a look-up is the mean over all filters with a window.
    """
    with open_installation(database, setup.postgres) as installation:
        seconds = log_rows.fill(installation.database_url, count, days)
        machine.say(f"{count:,} rows of {days} days written in {seconds:.0f} s")
        until_ms = time.time_ns() // 1_000_000
        rows = uvloop.run(_look_up(installation, until_ms, days, lookups))
        share = min(1.0, exported / count)
        machine.pin_tree(
            installation.roots, machine.ALL_CORES
        )  # an export is one request: api and database work in turn
        return rows + [_export(installation, name, until_ms, days * share, setup.rounds) for name in _FORMATS]


def _filters(draw: random.Random) -> dict[str, dict[str, Any]]:
    """Return one value for each filter."""
    return {
        "time alone": {},
        "model": {"model": f"model-{draw.randrange(MODELS) + 1}"},
        "provider": {"provider_id": draw.randrange(PROVIDERS) + 2},
        "key": {"key_id": draw.randrange(KEYS) + 3},
        "user": {"user_id": draw.randrange(USERS) + 3},
        "organization": {"organization_id": draw.randrange(ORGANIZATIONS) + 2},
        "endpoint": {"endpoint": "/v1/rerank"},
        "status": {"status": "failed"},
        "http status": {"http_status": 503},
        "error code": {"error_code": "provider_timeout"},
        "latency": {"min_latency_ms": 8500},
        "tokens": {"min_tokens": 2400},
        "cost": {"min_cost": 0.0024},
        "streamed": {"streamed": "true", "model": "model-20"},
        "metadata": {"metadata[run]": "nightly"},
        "vote": {"vote": "up"},
        "nothing found": {"model": "model-0"},
    }


async def _look_up(installation: Installation, until_ms: int, days: int, lookups: int) -> list[Row]:
    draw = random.Random(4)  # noqa: S311
    connection = Connection(installation.url)
    found: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    used: dict[str, float] = {}
    for number in range(lookups + 5):
        if number == 5:
            used = machine.cpu_s_by_kind(installation.roots)
        since_s = draw.randrange(until_ms // 1000 - days * DAY_MS // 1000, until_ms // 1000 - _WINDOW_S)
        window = {"created_after": since_s, "created_before": since_s + _WINDOW_S}
        for name, one in _filters(draw).items():
            took_ms, size = await _ask(installation, connection, window | one)
            if number >= 5:  # the first ones are prepared and planned
                found.setdefault(name, []).append(took_ms)
                sizes.setdefault(name, []).append(size)
    asked = lookups * len(found)
    each_ms = {
        kind: (seconds - used.get(kind, 0)) / asked * 1000
        for kind, seconds in machine.cpu_s_by_kind(installation.roots).items()
    }
    for name, one in {"user, any time": {"user_id": 7}, "batch, any time": {"batch_id": f"batch_{1:026d}"}}.items():
        for _ in range(lookups):
            took_ms, size = await _ask(installation, connection, one)
            found.setdefault(name, []).append(took_ms)
            sizes.setdefault(name, []).append(size)
    connection.close()
    return [
        {
            "name": f"log: {name}", "database": installation.database, "gateway": "sluice", "requests": len(times_ms),
            "p50_ms": round(median(times_ms), 1), "p99_ms": round(quantiles(times_ms, n=100)[98], 1),
            "max_ms": round(max(times_ms), 1), "rows": round(median(sizes[name])),
            "of_api_ms": round(each_ms.get("api", 0), 2), "of_postgres_ms": round(each_ms.get("postgres", 0), 2),
        }
        for name, times_ms in found.items()
    ]  # fmt: skip


async def _ask(installation: Installation, connection: Connection, query: dict[str, Any]) -> tuple[float, int]:
    url = f"{installation.url}/request_logs?{urlencode(query)}"
    response = await connection.send(encode("GET", url, installation.headers))
    if response.status != 200:
        raise BenchError(response.body.decode()[:500])
    return (response.ended_at - response.sent_at) * 1000, len(json.loads(response.body)["data"])


def _export(installation: Installation, name: str, until_ms: int, days: float, rounds: int) -> Row:
    """Export the newest days; the reader throws everything away.  All share all cores."""
    since_s = until_ms // 1000 - int(days * DAY_MS / 1000)
    expected = int(installation.ledger.row(_COUNT.format(first=log_rows.oldest_ulid(since_s * 1000)))[0])
    url = f"{installation.url}/request_logs?created_after={since_s}"
    rates, sizes, cpu = [], [], machine.cpu_s_by_kind(installation.roots)
    with _peak_mb(installation) as peak:
        for _ in range(rounds):
            began = time.perf_counter()
            sizes.append(uvloop.run(_read_away(url, installation.headers | {"Accept": _FORMATS[name]})))
            rates.append(expected / (time.perf_counter() - began))
            machine.say(f"export {name} {installation.database}: {rates[-1]:,.0f} rows/s")
    used = {kind: seconds - cpu.get(kind, 0) for kind, seconds in machine.cpu_s_by_kind(installation.roots).items()}
    return {
        "name": f"export: {name}", "database": installation.database, "gateway": "sluice", "requests": rounds,
        "rows": expected, "rows_per_s": round(median(rates)), "mb": round(median(sizes) / 2**20, 1),
        "api_rss_mb_before": round(peak[0], 1), "api_rss_mb_peak": round(max(peak), 1),
        "api_us_per_row": round(used.get("api", 0) / rounds / expected * 1e6, 1),
        "postgres_us_per_row": round(used.get("postgres", 0) / rounds / expected * 1e6, 1),
    }  # fmt: skip


_COUNT = "SELECT count(*) FROM request_logs WHERE id >= '{first}'"


@contextmanager
def _peak_mb(installation: Installation) -> Iterator[list[float]]:
    """Collect the resident size of the api ten times a second."""
    found, is_over = [installation.rss_mb("-m api")], threading.Event()

    def look() -> None:
        while not is_over.wait(0.1):
            found.append(installation.rss_mb("-m api"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


async def _read_away(url: str, headers: dict[str, str]) -> int:
    """Return the bytes of an answer, once it has ended well."""
    import aiohttp  # noqa: PLC0415  # nothing else of the load generator needs it

    size = 0
    async with (
        aiohttp.ClientSession(read_bufsize=2**20, timeout=aiohttp.ClientTimeout(total=3600)) as http,
        http.get(url, headers=headers) as response,
    ):
        if response.status != 200:
            raise BenchError(await response.text())
        async for piece in response.content.iter_any():
            size += len(piece)
    return size


def run_log_cost(database: str, setup: Setup) -> list[Row]:
    """Measure chat-64 for callers of each content policy, and with an installation that writes no rows, in turn."""
    options = {"upstream_url": setup.upstream_url, "accept_patience_s": 5}
    with (
        open_installation(database, setup.postgres, **options) as whole,
        open_installation(database, setup.postgres, first_path=_WITHOUT_LOGS, **options) as without,
    ):
        gateways = [_of_policy(installation, policy) for installation, policy in _variants(whole, without)]
        samples: list[list[Sample]] = [[] for _ in gateways]
        for number in range(setup.rounds):
            order = list(range(len(gateways)))
            for place in order if number % 2 else reversed(order):
                samples[place].append(measure(gateways[place], LOADS["chat-64"], setup.effort))
                machine.say(f"{gateways[place].name} {database}: {_rate(samples[place][-1]):.0f}/s")
        for installation in (whole, without):
            installation.ledger.check()
    rows = [summarize("logs", gateway, found) for gateway, found in zip(gateways, samples, strict=True)]
    for row, found in zip(rows, samples, strict=True):
        row["of_no_rows"] = round(median(_rate(a) / _rate(b) for a, b in zip(found, samples[0], strict=True)), 3)
        row["cpu_of_no_rows"] = round(float(row["cpu_s_per_1000"] or 0) / float(rows[0]["cpu_s_per_1000"] or 1), 3)
    return rows


def _variants(whole: Installation, without: Installation) -> Sequence[tuple[Installation, str]]:
    return [(without, "full"), *((whole, policy) for policy in _POLICIES)]


def _of_policy(installation: Installation, policy: str) -> Gateway:
    """Return the gateway as a user of an organization with this policy sees it."""
    organization = installation.ask("POST", "/admin/organizations", {"name": policy, "content_policy": policy})
    user = {"email": f"{policy}@example.com", "password": "correct horse battery", "role": 2}
    user_id = installation.ask("POST", "/admin/users", user | {"organization": organization["id"]})["id"]
    key = installation.ask("POST", "/admin/tokens", {"name": "bench", "user": user_id})["key"]
    rows = "no rows" if installation.environ["PYTHONPATH"].startswith(str(_WITHOUT_LOGS)) else f"policy {policy}"
    gateway = gateway_of(installation)
    return replace(gateway, name=f"sluice, {rows}", headers={"Authorization": f"Bearer {key}"})


def _rate(sample: Sample) -> float:
    return float(sample.result.requests / sample.result.seconds)
