"""Measure Sluice with everything on, against its own simulator: `scripts/bench/run [--seconds 5] [--json FILE]`.

Api, worker and Redis share one core, the load has another.  The simulator answers at once, so that what is measured is
Sluice: authentication, validation, the durable job, queue, accounting, carbon, request log, reply.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from load import Connection, run

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-bench-0123456789abcdef0123456789"
BODY = {"model": "simulator", "messages": [{"role": "user", "content": "Hello, who are you?"}], "max_tokens": 64}
CHAT = "/v1/chat/completions"


async def chat(connection: Connection) -> bool:
    """Await one completion."""
    status, body = await connection.request("POST", CHAT, BODY)
    return status == 200 and b'"chat.completion"' in body


async def stream(connection: Connection) -> bool:
    """Read one stream of 20 words to its end."""
    status, body = await connection.request("POST", CHAT, BODY | {"stream": True})
    return status == 200 and body.endswith(b"data: [DONE]\n\n")


async def accept(connection: Connection) -> bool:
    """Have one job accepted."""
    status, _ = await connection.request("POST", CHAT, BODY, Prefer="respond-async")
    return status == 202


async def drain(url: str) -> dict[str, Any]:
    """Wait until no job is queued or in progress; returns how long that took."""
    connection, started = Connection(url, KEY), time.perf_counter()
    path = "/v1/jobs?status=queued&status=in_progress&limit=1"
    while json.loads((await connection.request("GET", path))[1])["data"]:
        await asyncio.sleep(0.05)
    connection.close()
    return {"drain_s": round(time.perf_counter() - started, 2)}


async def measure(url: str, seconds: float) -> dict[str, Any]:
    """Run all scenarios, one after the other."""
    calls: list[tuple[str, int, Callable[[Connection], Awaitable[bool]]]] = [
        ("chat-1", 1, chat), ("chat-32", 32, chat), ("chat-64", 64, chat), ("stream-1", 1, stream),
        ("stream-32", 32, stream), ("accept-64", 64, accept),
    ]  # fmt: skip
    rows: dict[str, Any] = {}
    for name, concurrency, call in calls:
        await run(url, KEY, concurrency, 1.0, call)
        await drain(url)
        result = await run(url, KEY, concurrency, seconds, call)
        rows[name] = result.row()
        if name.startswith("accept"):
            rows[name] |= await drain(url)
            whole_s = result.elapsed_s + rows[name]["drain_s"]
            rows[name]["through_per_s"] = round(len(result.latencies_ms) / whole_s)
        print(f"{name:10s} {rows[name]}", flush=True)
    return rows


def resident_mb(pid: int) -> dict[str, int]:
    """Return the resident size of each child of the supervisor, in MB."""
    sizes = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == pid:
                words = (entry / "cmdline").read_text().split("\0")
                name = words[2] if "-m" in words[:2] else Path(words[0]).name
                sizes[name] = int(stat[21]) * os.sysconf("SC_PAGE_SIZE") // 2**20
    return sizes


def main() -> None:
    """Start an installation on core 0, load it from core 1, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--database-url")
    parser.add_argument("--port", type=int, default=18080)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        environ |= {"SLUICE_DATA_DIR": folder, "SLUICE_PORT": str(options.port), "SLUICE_ADMIN_KEY": KEY}
        environ |= {"PYTHONPATH": str(ROOT), "SLUICE_LOG_LEVEL": "warning"}
        if options.database_url:
            environ["SLUICE_DATABASE_URL"] = options.database_url
        command = ["taskset", "-c", "0", sys.executable, "-m", "worker.supervisor"]
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=subprocess.PIPE)
        os.sched_setaffinity(0, {os.cpu_count() - 1 if os.cpu_count() else 0})
        try:
            assert process.stdout is not None
            process.stdout.readline()
            idle = resident_mb(process.pid)
            rows = asyncio.run(measure(f"http://127.0.0.1:{options.port}", options.seconds))
            report = {"idle_mb": idle, "loaded_mb": resident_mb(process.pid), "scenarios": rows}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    print(json.dumps({name: report[name] for name in ("idle_mb", "loaded_mb")}))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
