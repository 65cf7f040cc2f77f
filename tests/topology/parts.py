"""An installation whose parts are started, ended and replaced one by one, as on several machines."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientSession
from typing_extensions import override

from tests.faults.processes import ROOT, Processes, free_port
from tests.waiting import eventually

_PROXY: Final = ("caddy", "run", "--adapter", "caddyfile", "--config")
_SEEN_S: Final = 1.5
"""By then the proxy has noticed that an api is back; twice the interval of its checks, and more."""


class Topology(Processes):
    """Two api and three worker processes behind the proxy of deploy/Caddyfile."""

    def __init__(self, folder: Path, database_url: str, *redis_urls: str) -> None:
        super().__init__(
            folder, database_url=database_url, redis_url=redis_urls[0], encryption_key="the-key-of-the-topology",
            file_store_url=f"file://{folder}/files", lease_s=2, leave_s=2, drain_s=20,
            accept_patience_s=5, shard_redis_urls=",".join(redis_urls[1:]),
        )  # fmt: skip
        self.ports = [free_port(), free_port()]
        self._apis: dict[int, subprocess.Popen[bytes]] = {}
        self._workers: list[subprocess.Popen[bytes]] = []
        self._proxy: subprocess.Popen[bytes] | None = None

    @override
    async def start(self) -> None:
        """Migrate, start everything, and return when the proxy has seen every api."""
        migrating = self._run("worker.maintenance", "migrate")
        assert await asyncio.to_thread(migrating.wait, 30) == 0, self.output.read_text()
        for port in self.ports:
            self._apis[port] = self._run("api", port=port)
        self._workers = [self._run_worker(place) for place in range(3)]
        with self.output.open("ab") as output:
            self._proxy = subprocess.Popen(
                [*_PROXY, str(ROOT / "deploy" / "Caddyfile")],
                env=self.environ | {
                    "SLUICE_ADDRESS": self.url, "SLUICE_API": " ".join(f"127.0.0.1:{port}" for port in self.ports),
                    "HTTP_PORT": str(free_port()), "HTTPS_PORT": str(free_port()), "HOME": str(self.folder),
                },
                stdout=output, stderr=output,
            )  # fmt: skip
        for port in self.ports:
            await eventually(lambda port=port: self._serves(port), within_s=30)
        await eventually(lambda: self._serves(self.port), within_s=30)
        await asyncio.sleep(_SEEN_S)

    async def replace_api(self, port: int) -> None:
        """End one api as a rolling update does, start another, and wait until it has its share again."""
        await _end(self._apis[port])
        self._apis[port] = self._run("api", port=port)
        await eventually(lambda: self._serves(port), within_s=30)
        await asyncio.sleep(_SEEN_S)

    async def replace_worker(self, place: int) -> None:
        """Start another worker, and end this one as a rolling update does."""
        old, self._workers[place] = self._workers[place], self._run_worker(place)
        await _end(old)

    @override
    async def close(self) -> None:
        """End everything, however it is."""
        for process in (self._proxy, *self._apis.values(), *self._workers):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.check_output()

    def _run_worker(self, place: int) -> "subprocess.Popen[bytes]":
        return self._run("worker", shard=place % len(self.redis_urls))

    def _run(self, module: str, *arguments: str, **settings: int) -> "subprocess.Popen[bytes]":
        environ = self.environ | {f"SLUICE_{name.upper()}": str(value) for name, value in settings.items()}
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments], env=environ, cwd=self.folder, stdout=output, stderr=output
            )

    async def _serves(self, port: int) -> bool:
        with suppress(ClientError, OSError):
            async with ClientSession() as http, http.get(f"http://127.0.0.1:{port}/health") as response:
                return response.status == 200
        return False


async def _end(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM and wait; the process must leave in order."""
    process.terminate()
    assert await asyncio.to_thread(process.wait, 40) == 0
