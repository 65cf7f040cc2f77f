"""An installation in processes of its own, as `scripts/run` starts it, for tests that kill them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

from shared.database import Database
from shared.embedded_redis import answers
from tests.installation import ADMIN_KEY
from tests.waiting import eventually

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
        self.output = folder.parent / f"{folder.name}.log"
        self._supervisor: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and return when it serves."""
        with self.output.open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "worker.supervisor"],
                env=self.environ,
                cwd=self.folder.parent,
                stdout=output,
                stderr=output,
            )
        await eventually(self.serves, within_s=30)

    async def serves(self) -> bool:
        assert self._supervisor is not None
        assert self._supervisor.poll() is None, self.output.read_text()[-3000:]
        with suppress(ClientError, OSError):
            async with ClientSession() as http, http.get(self.url + "/health") as response:
                return response.status == 200
        return False

    @property
    def pid(self) -> int:
        assert self._supervisor is not None
        return self._supervisor.pid

    def children(self, *words: str) -> list[int]:
        """Return the pids of living children whose command line has all these words."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text().replace("\0", " ")
                if int(stat[1]) == self.pid and stat[0] != "Z" and all(word in command for word in words):
                    found.append(int(entry.name))
        return found

    def kill(self, *words: str, signum: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send a signal to these children; returns their pids."""
        pids = self.children(*words)
        assert pids, f"no child {words}"
        for pid in pids:
            os.kill(pid, signum)
        return pids

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
        if self._supervisor is not None and self._supervisor.poll() is None:
            children = self.children()
            self._supervisor.kill()
            self._supervisor.wait()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await eventually(lambda: not answers(self.folder / "redis.sock"))

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Open the database, to read what is true."""
        database = Database(self.database_url)
        yield database
        await database.close()


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


async def submit(http: ClientSession, processes: Processes, count: int, **simulator: Any) -> list[str]:
    """Post so many asynchronous chats at once; returns the ids of those that were accepted."""

    async def one(number: int) -> str | None:
        body = {
            "model": "simulator",
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
