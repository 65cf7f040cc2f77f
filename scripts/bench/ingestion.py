"""Files into chunks, `ingestion`: everything as in production but the model, which answers at once."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import quantiles
from typing import Any

import machine
from installation import Installation, open_installation
from machine import BenchError
from measure import Row, Setup

DIMENSIONS = 1024
_MODEL = "instant-embedding"
_VECTOR = ",".join(f"{(number * 37 % 1000) / 1000 - 0.5:.6f}" for number in range(DIMENSIONS))
_PARAGRAPH = "The train leaves every hour from the old station, and the harbour is near. " * 26
_BOUNDARY = "sluice-bench-boundary"


class _Instant(BaseHTTPRequestHandler):
    """Answers any number of inputs with the same vector."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the name http.server asks for
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = ",".join(f'{{"index":{index},"embedding":[{_VECTOR}]}}' for index in range(len(asked["input"])))
        body = f'{{"data":[{data}],"usage":{{"prompt_tokens":{100 * len(asked["input"])}}}}}'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@contextmanager
def _serve() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Instant)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def run_ingestion(database: str, setup: Setup, chunks: int) -> list[Row]:
    """Measure chunks per second of one file, and how long other requests wait meanwhile; all on one core."""
    with (
        _serve() as url,
        open_installation(database, setup.postgres, vector_store_model=_MODEL) as installation,
    ):
        headers = _prepare(installation, url)
        waits: list[float] = []
        done = threading.Event()
        pinger = threading.Thread(target=_ping, args=(installation, done, waits), daemon=True)
        pinger.start()
        text = "\n\n".join(f"{number} {_PARAGRAPH}" for number in range(chunks))
        begun = time.perf_counter()
        found = _upload(installation, headers, text.encode())
        took_s = time.perf_counter() - begun
        done.set()
        pinger.join()
        installation.ledger.check()
    machine.say(f"ingestion {database}: {found / took_s:.0f} chunks/s")
    return [
        {
            "name": f"ingestion: {len(text) // 1_000_000} MB of text", "database": database, "gateway": "sluice",
            "chunks": found, "per_s": round(found / took_s, 1), "health_p99_ms": round(quantiles(waits, n=100)[98], 1),
            "health_max_ms": round(max(waits), 1),
        }
    ]  # fmt: skip


def _prepare(installation: Installation, url: str) -> dict[str, str]:
    """Add the model and a user who may use it; returns his headers."""
    ask = installation.ask
    router = ask("POST", "/admin/routers", {"name": _MODEL, "type": "text-embeddings-inference"})["id"]
    provider = {"router": router, "type": "openai", "url": url, "model_name": "m", "probe": False}
    ask("POST", "/admin/providers", provider)
    role = ask("POST", "/admin/roles", {"name": "r", "limits": [{"router": router, "type": "rpm", "value": None}]})
    user = {"email": "bench@example.com", "password": "correct horse battery", "role": role["id"]}
    user_id = ask("POST", "/admin/users", user)["id"]
    key = ask("POST", "/admin/tokens", {"name": "bench", "user": user_id})["key"]
    time.sleep(1.0)  # until the worker knows the model
    return {"Authorization": f"Bearer {key}"}


def _send(installation: Installation, path: str, headers: dict[str, str], body: bytes) -> Any:
    request = urllib.request.Request(installation.url + path, body, headers, method="POST")  # noqa: S310  # loopback
    with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
        return json.loads(response.read())


def _upload(installation: Installation, headers: dict[str, str], data: bytes) -> int:
    json_type = {"Content-Type": "application/json"}
    collection = _send(installation, "/collections", headers | json_type, b'{"name": "bench"}')["id"]
    part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="'
    body = (
        f'{part}collection_id"\r\n\r\n{collection}\r\n{part}file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    ).encode()
    body += data + f"\r\n--{_BOUNDARY}--\r\n".encode()
    form = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    document = _send(installation, "/documents", headers | form, body)
    if not document["chunks"]:
        raise BenchError(f"nothing was stored: {document}")
    return int(document["chunks"])


def _ping(installation: Installation, done: threading.Event, waits: list[float]) -> None:
    url = installation.url.removesuffix("/v1") + "/health"
    while not done.is_set():
        begun = time.perf_counter()
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310  # loopback
            response.read()
        waits.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.005)
