"""Sluice in processes of its own, on the cores of the servers: whole as `scripts/run` starts it, or in parts."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import uvloop
from http1 import Connection, Response, encode
from ledger import Ledger
from load import Load, is_right
from machine import ROOT, SERVER_CORES, BenchError, free_port
from postgres import Postgres

from shared.embedded_redis import answers, redis_command

KEY = "sk-bench-0123456789abcdef0123456789"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
WHOLE = (sys.executable, "-m", "worker.supervisor")
_PREPARE = "import asyncio, shared.settings as s, worker.bootstrap as b; asyncio.run(b.prepare(s.load_settings()))"
_READY_WITHIN_S = 60.0
CHAT_BODY = b'{"model":"simulator","messages":[{"role":"user","content":"Hello, who are you?"}],"max_tokens":64}'
"""A chat with the simulator, the provider that needs no network and no time."""
_PROBE = Load(name="probe", body=b"", connections=1, expected='"content"')


@dataclass
class Installation:
    """A running one.  Its processes, and PostgreSQL's if it uses that, are weighed together."""

    folder: Path
    database: str
    database_url: str
    environ: dict[str, str]
    cores: frozenset[int]
    postgres: Postgres | None
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.environ['SLUICE_PORT']}/v1"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {KEY}"}

    @property
    def redis_socket(self) -> Path:
        """Where its Redis listens."""
        return self.folder / "data" / "redis.sock"

    @property
    def roots(self) -> list[int]:
        """The processes whose trees are weighed."""
        return [*(process.pid for process in self.processes), *([self.postgres.pid] if self.postgres else [])]

    @property
    def ledger(self) -> Ledger:
        """The judge."""
        return Ledger(self.database_url)

    def start(self, command: Sequence[str], cores: Iterable[int] | None = None) -> "subprocess.Popen[bytes]":
        """Start one of its processes."""
        process = machine.start(command, cores or self.cores, self.folder / "log", self.environ, self.folder)
        self.processes.append(process)
        return process

    def ask(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON answer of its API."""
        headers = self.headers | {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method=method)  # noqa: S310  # loopback
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return json.loads(response.read())

    def rss_mb(self, words: str) -> float:
        """Return the resident size of its processes whose command line has these words."""
        return sum(stat.rss_mb for stat in machine.find(self.roots, words))

    def wait_until_it_answers(self, *, has_worker: bool = True) -> float:
        """Return when it has answered a chat, or without a worker the question for its models; returns the moment."""
        return uvloop.run(self._first_answer(has_worker=has_worker))

    async def _first_answer(self, *, has_worker: bool) -> float:
        path, method, body = ("/chat/completions", "POST", CHAT_BODY) if has_worker else ("/models", "GET", b"")
        request = encode(method, self.url + path, {"Content-Type": "application/json", **self.headers}, body)
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            response = await _ask(self.url, request)
            if response is not None and (is_right(_PROBE, response) if has_worker else response.status == 200):
                return time.perf_counter()
            if time.monotonic() > deadline or any(process.poll() is not None for process in self.processes):
                raise BenchError(f"Sluice does not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            await asyncio.sleep(0.01)


async def _ask(url: str, request: bytes) -> Response | None:
    connection = Connection(url)
    try:
        return await connection.send(request, 10)
    except OSError:
        return None
    finally:
        connection.close()


@contextmanager
def _prepared(
    database: str, postgres: Postgres | None, cores: frozenset[int], **settings: object
) -> Iterator[Installation]:
    """Yield an installation of which nothing runs yet; what was started has ended afterwards."""
    if database == POSTGRESQL and postgres is None:
        raise BenchError("no PostgreSQL was started")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        url = postgres.new_database() if postgres and database == POSTGRESQL else f"sqlite:///{folder}/data/sluice.db"
        values: dict[str, object] = {
            "data_dir": folder / "data", "port": free_port(), "admin_key": KEY, "log_level": "warning",
            "database_url": url, "encryption_key": KEY,
        }  # fmt: skip
        environ = {f"SLUICE_{key.upper()}": str(value) for key, value in (values | settings).items()}
        environ["PYTHONPATH"] = str(ROOT)
        used = postgres if database == POSTGRESQL else None
        installation = Installation(folder, database, url, environ, cores, used)
        if used is not None:
            machine.pin_tree([used.pid], cores)
        try:
            yield installation
        finally:
            for process in reversed(installation.processes):
                machine.stop(process)
            if used is not None:
                machine.pin_tree([used.pid], SERVER_CORES)


@contextmanager
def open_installation(
    database: str, postgres: Postgres | None, cores: frozenset[int] = SERVER_CORES, *, first_path: Path | None = None,
    **settings: object,
) -> Iterator[Installation]:  # fmt: skip
    """Yield an installation that serves, started as a whole; Python looks into `first_path` before its code."""
    with _prepared(database, postgres, cores, **settings) as installation:
        if first_path is not None:
            installation.environ["PYTHONPATH"] = f"{first_path}:{ROOT}"
        installation.start(WHOLE)
        installation.wait_until_it_answers()
        yield installation


@contextmanager
def open_without_worker(database: str, postgres: Postgres | None, **settings: object) -> Iterator[Installation]:
    """Yield an installation whose api accepts while no worker runs; `start_worker` starts one."""
    with _prepared(database, postgres, SERVER_CORES, **settings) as installation:
        folder, socket = installation.folder / "data", installation.redis_socket
        (folder / "redis").mkdir(parents=True)
        installation.environ["SLUICE_REDIS_URL"] = f"unix://{socket}"
        installation.start(redis_command(folder / "redis", socket))
        machine.wait_until("Redis answers", lambda: answers(socket), 10, 0.01)
        prepare = installation.start((sys.executable, "-c", _PREPARE))
        if prepare.wait(_READY_WITHIN_S):
            raise BenchError((installation.folder / "log").read_text()[-2000:])
        installation.processes.remove(prepare)
        installation.start((sys.executable, "-m", "api"))
        installation.wait_until_it_answers(has_worker=False)
        yield installation


def start_worker(installation: Installation) -> None:
    """Start a worker of an installation that has none."""
    installation.start((sys.executable, "-m", "worker"))


@contextmanager
def start_as_users_do(
    database: str, postgres: Postgres | None, cores: frozenset[int]
) -> Iterator[tuple[Installation, float]]:
    """Yield an installation started by `scripts/run`, and the seconds from that to its first answered chat."""
    with _prepared(database, postgres, cores) as installation:
        began = time.perf_counter()
        installation.start([str(ROOT / "scripts" / "run")])
        yield installation, installation.wait_until_it_answers() - began
