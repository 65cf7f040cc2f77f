"""A batch of 50,000 lines from its upload to its files: `batches`.  The provider is the simulator, so all is Sluice."""

import json
import time
import urllib.request
from typing import Any

import machine
from installation import KEY, Installation, open_installation
from machine import BenchError
from measure import Row, Setup

PROCESSES = {"api": "-m api", "worker": "-m worker ", "redis": "redis-server"}
_WITHIN_S = 600.0
_BOUNDARY = "sluice-bench"


def run_batches(database: str, setup: Setup, lines: int) -> list[Row]:
    """Upload, accept, run and read one batch of chats; memory is the most that any process of a kind had."""
    with open_installation(database, setup.postgres) as installation:
        begun = time.monotonic()
        file_id = _upload(installation, _input(lines))
        uploaded = time.monotonic()
        batch = installation.ask(
            "POST", "/batches",
            {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        )  # fmt: skip
        peaks: dict[str, float] = {}
        accepted = _until(installation, batch["id"], ("validating",), peaks)
        ended = _until(installation, batch["id"], ("in_progress", "finalizing"), peaks)
        done = installation.ask("GET", f"/batches/{batch['id']}", {})
        if done["request_counts"]["completed"] != lines:
            raise BenchError(f"{done['request_counts']} instead of {lines}")
        installation.ledger.check()
    row: Row = {
        "name": f"batch of {lines}", "gateway": "sluice", "database": database, "upload_s": round(uploaded - begun, 2),
        "accept_s": round(accepted - uploaded, 2), "run_s": round(ended - accepted, 2),
        "lines_per_s": round(lines / (ended - accepted)),
    }  # fmt: skip
    row |= {f"{process}_mb": round(size) for process, size in peaks.items()}
    machine.say(str(row))
    return [row]


def _input(lines: int) -> bytes:
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hello, who are you?"}], "max_tokens": 64}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    return b"\n".join(json.dumps({"custom_id": f"request-{n}"} | line).encode() for n in range(lines))


def _upload(installation: Installation, data: bytes) -> str:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{_BOUNDARY}\r\n'
        'Content-Disposition: form-data; name="file"; filename="bench.jsonl"\r\n\r\n'
    )
    request = urllib.request.Request(  # noqa: S310  # our own server
        f"{installation.url}/files",
        data=head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return str(json.load(response)["id"])


def _until(installation: Installation, batch_id: str, statuses: tuple[str, ...], peaks: dict[str, float]) -> float:
    """Return when the batch has left these states; notes the memory of the processes on the way."""
    deadline = time.monotonic() + _WITHIN_S
    while True:
        batch: Any = installation.ask("GET", f"/batches/{batch_id}", {})
        for process, words in PROCESSES.items():
            peaks[process] = max(peaks.get(process, 0.0), installation.rss_mb(words))
        if batch["status"] not in statuses:
            return time.monotonic()
        if time.monotonic() > deadline:
            raise BenchError(f"{batch['status']} after {_WITHIN_S} s")
        time.sleep(0.2)
