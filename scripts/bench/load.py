"""Send the same request on so many connections for so long, and look at every answer."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from http1 import Connection, Response, encode

_ANSWER_WITHIN_S = 30
_PAUSE_AFTER_ERROR_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked.  A right answer has status 2xx and `expected` so many `times`; a stream ends with [DONE], too."""

    name: str
    body: bytes
    connections: int
    expected: str
    times: int = 1
    is_stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = "/chat/completions"
    method: str = "POST"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came back.  `requests` are right answers, latencies are those of whole answers."""

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    first_event_p50_ms: float | None = None


def has_wrk() -> bool:
    """Return whether wrk is installed."""
    return shutil.which("wrk") is not None


def run_load(load: Load, url: str, headers: Mapping[str, str], seconds: float, *, with_wrk: bool) -> Result:
    """Load the server whose API is at `url`: with wrk if that is wanted and can do it, else from this process."""
    every_header = {**headers, **load.headers}
    if with_wrk and not load.is_stream:
        return _run_wrk(load, url, every_header, seconds)
    return uvloop.run(_run(load, url, every_header, seconds))


def _run_wrk(load: Load, url: str, headers: Mapping[str, str], seconds: float) -> Result:
    lines = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    options = ["-t1", f"-c{load.connections}", f"-d{round(seconds) or 1}s", "--timeout", f"{_ANSWER_WITHIN_S}s"]
    script = Path(__file__).with_name("load.lua")
    with tempfile.NamedTemporaryFile() as body:
        body.write(load.body)
        body.flush()
        command = [
            "wrk",
            *options,
            *lines,
            "-s",
            str(script),
            url + load.path,
            "--",
            body.name,
            load.expected,
            load.method,
        ]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    return Result(**json.loads(output.splitlines()[-1]))


async def _run(load: Load, url: str, headers: Mapping[str, str], seconds: float) -> Result:
    request = encode(load.method, url + load.path, {"Content-Type": "application/json", **headers}, load.body)
    right: list[Response] = []
    errors, stop_at = 0, time.perf_counter() + seconds

    async def keep_asking() -> None:
        nonlocal errors
        connection = Connection(url)
        while time.perf_counter() < stop_at:
            try:
                response = await connection.send(request, _ANSWER_WITHIN_S)
            except OSError:
                errors += 1
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
                continue
            if not is_right(load, response):
                errors += 1
            elif response.ended_at <= stop_at:  # as wrk does: what comes too late is not counted
                response.body = b""
                right.append(response)
        connection.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.connections):
            tasks.create_task(keep_asking())
    times_ms = sorted((one.ended_at - one.sent_at) * 1e3 for one in right)
    events_ms = sorted((one.first_event_at - one.sent_at) * 1e3 for one in right if one.first_event_at is not None)
    return Result(
        requests=len(right),
        errors=errors,
        seconds=seconds,
        p50_ms=percentile(times_ms, 50),
        p90_ms=percentile(times_ms, 90),
        p99_ms=percentile(times_ms, 99),
        first_event_p50_ms=percentile(events_ms, 50) if load.is_stream else None,
    )


def is_right(load: Load, response: Response) -> bool:
    """Return whether this is the answer that was asked for."""
    is_whole = not load.is_stream or b"[DONE]" in response.body
    is_right_status = 200 <= response.status < 300 or (response.status == 304 and not load.expected)
    return (
        is_right_status
        and is_whole
        and (not load.expected or response.body.count(load.expected.encode()) == load.times)
    )


def percentile(ordered: list[float], percent: float) -> float:
    """Return the value below which that many percent of the ordered values lie; 0.0 if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
