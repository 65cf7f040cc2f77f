"""An installation in processes of its own, as `scripts/run` starts it, for tests that kill them."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession
from redis import Redis

from shared.database import Database
from shared.embedded_redis import answers
from tests.installation import ADMIN_KEY
from tests.waiting import eventually

_SECRET = re.compile(r"(?:\b|\\n)((?:sk|whsec)[-_][A-Za-z0-9_+/=-]{16,})")
ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """A supervisor and its children."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        values = {"data_dir": folder, "port": self.port, "admin_key": ADMIN_KEY, "fault_points": "true"} | settings
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        self.environ = kept | {f"SLUICE_{name.upper()}": str(value) for name, value in values.items()}
        self.environ["PYTHONPATH"] = str(ROOT)
        self.database_url = str(settings.get("database_url", f"sqlite:///{folder}/sluice.db"))
        self.redis_url = str(settings.get("redis_url", f"unix://{folder}/redis.sock"))
        self.redis_urls = [self.redis_url, *filter(None, str(settings.get("shard_redis_urls", "")).split(","))]
        self.output = folder.parent / f"{folder.name}.log"
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._spawned: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        """Start it and return when it serves."""
        greetings = self._greetings()
        self._supervisor = self._open("worker.supervisor")
        await eventually(lambda: self._is_alive() and self._greetings() > greetings, within_s=30)
        await eventually(self.serves, within_s=30)

    def spawn(self, module: str, *arguments: str) -> int:
        """Start a process that no supervisor watches, with the settings of the others; returns its pid."""
        self._spawned.append(self._open(module, *arguments))
        return self._spawned[-1].pid

    def _open(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.environ,
                cwd=self.folder.parent,
                stdout=output,
                stderr=output,
            )

    def _greetings(self) -> int:
        """Count the starts so far: an api process of a killed supervisor may still answer while the next one starts."""
        return self.output.read_text().count("Sluice listens on") if self.output.exists() else 0

    def _is_alive(self) -> bool:
        assert self._supervisor is not None
        assert self._supervisor.poll() is None, self.output.read_text()[-3000:]
        return True

    async def serves(self) -> bool:
        """Return whether it answers; fails if it has ended."""
        self._is_alive()
        with suppress(ClientError, OSError):
            async with ClientSession() as http, http.get(self.url + "/health") as response:
                return response.status == 200
        return False

    def redis(self) -> Redis:
        """Return a client of its Redis, to be closed by the caller."""
        return Redis.from_url(self.redis_url)

    @property
    def pid(self) -> int:
        assert self._supervisor is not None
        return self._supervisor.pid

    def children(self, *words: str) -> list[int]:
        """Return the pids of living children whose command line has all these words, the oldest first."""
        found = []
        for pid, parent in living():
            with suppress(OSError):
                if parent == self.pid and all(word in command_of(pid) for word in words):
                    found.append(pid)
        return sorted(found)

    def kill(self, *words: str, signum: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send a signal to these children; returns their pids."""
        pids = self.children(*words)
        assert pids, f"no child {words}"
        for pid in pids:
            os.kill(pid, signum)
        return pids

    def kill_supervisor(self) -> None:
        """Kill the supervisor; its children learn of it from the kernel and leave in their own time."""
        assert self._supervisor is not None
        self._supervisor.kill()
        self._supervisor.wait()

    def arm(self, fault_point: str) -> None:
        """Have the next process that reaches this point die there."""
        (self.folder / f"fault-{fault_point}").touch()

    def is_armed(self, fault_point: str) -> bool:
        return (self.folder / f"fault-{fault_point}").exists()

    def stop(self, *, within_s: float = 30.0) -> int:
        """Send SIGTERM to the supervisor and return its exit code."""
        assert self._supervisor is not None
        self._supervisor.send_signal(signal.SIGTERM)
        return self._supervisor.wait(within_s)

    async def close(self) -> None:
        """End everything, however it is."""
        for process in (self._supervisor, *self._spawned):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for pid in self._left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not self._left() and not answers(self.folder / "redis.sock"))
        self.check_output()

    def check_output(self) -> None:
        """Fail if the processes wrote a key or a secret of webhooks into their logs."""
        said = self.output.read_text(errors="replace") if self.output.exists() else ""
        kept = self.folder / "encryption_key"
        secrets = kept.read_text().split() if kept.exists() else []
        found = [*_SECRET.findall(said), *(one for one in secrets if one in said)]
        assert [one[:12] for one in found] == [], self.output

    def _left(self) -> list[int]:
        """Return the pids of all processes of this installation, children of dead supervisors among them."""
        mark = f"SLUICE_DATA_DIR={self.environ['SLUICE_DATA_DIR']}\0".encode()
        found = []
        for pid, _ in living():
            with suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
        return found

    async def add_model(self, name: str, url: str | None = None, **members: Any) -> None:
        """Create a model that costs something: simulated, or served by the provider at `url`."""
        router = {
            "name": name, "type": "text-generation", "cost_prompt_tokens": 1.5, "cost_completion_tokens": 2.5,
        }  # fmt: skip
        body: dict[str, Any] = {"type": "simulator", "model_name": "upstream-model", "probe": False}
        if url is not None:
            body |= {"type": "openai", "url": url}
        body |= {"model_total_params": 70, "model_active_params": 70, "model_hosting_zone": "FRA"} | members
        async with ClientSession(self.url, headers=self.headers) as http:
            async with http.post("/v1/admin/routers", json=router) as created:
                assert created.status == 201, await created.text()
                body["router"] = (await created.json())["id"]
            async with http.post("/v1/admin/providers", json=body) as created:
                assert created.status == 201, await created.text()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Open the database, to read what is true."""
        database = Database(self.database_url)
        yield database
        await database.close()


def living() -> list[tuple[int, int]]:
    """Return pid and parent of all processes that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found.append((int(entry.name), int(parent)))
    return found


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


async def rows(processes: Processes, table: Any) -> list[Any]:
    """Return all rows of a table."""
    from sqlmodel import select  # noqa: PLC0415

    async with processes.database() as database, database.read() as session:
        return list((await session.exec(select(table))).all())


async def until_all_over(processes: Processes, *, within_s: float = 40.0) -> list[Any]:
    """Wait until every job in the database is over; returns them."""
    from shared.jobs.tables import JobRow  # noqa: PLC0415

    async def are_over() -> list[Any]:
        jobs = await rows(processes, JobRow)
        return jobs if jobs and all(job.finished_ms is not None for job in jobs) else []

    found: list[Any] = await eventually(are_over, within_s=within_s)
    return found


async def submit(
    http: ClientSession, processes: Processes, count: int, *, model: str = "simulator", **simulator: Any
) -> list[str]:
    """Post so many asynchronous chats at once; returns the ids of those that were accepted."""

    async def one(number: int) -> str | None:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"number {number}"}],
            "simulator": simulator,
        }
        headers = processes.headers | {"Prefer": "respond-async"}
        with suppress(ClientError, OSError, asyncio.TimeoutError):
            async with http.post(processes.url + "/v1/chat/completions", json=body, headers=headers) as response:
                if response.status == 202:
                    return str((await response.json())["id"])
        return None

    return [job_id for job_id in await asyncio.gather(*(one(number) for number in range(count))) if job_id]
