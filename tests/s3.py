"""An S3-compatible store over real HTTP: the server of moto, in a process of its own."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientConnectionError, ClientSession

from tests.faults.processes import free_port
from tests.waiting import eventually


class ObjectServer:
    """A running store with the one bucket `bucket`."""

    def __init__(self, url: str, http: ClientSession) -> None:
        self.url = url
        self._http = http

    async def make_bucket(self) -> bool:
        """Return whether the server could do that already."""
        try:
            async with self._http.put(f"{self.url}/bucket") as response:
                return response.status == 200
        except ClientConnectionError:
            return False

    async def unfinished_uploads(self) -> int:
        """Return how many uploads in parts were begun and neither completed nor aborted."""
        async with self._http.get(f"{self.url}/bucket?uploads") as response:
            return (await response.text()).count("<UploadId>")


@asynccontextmanager
async def serve_objects() -> AsyncIterator[ObjectServer]:
    """Yield a running store, which ends with all it holds."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with ClientSession() as http:
            server = ObjectServer(f"http://127.0.0.1:{port}", http)
            await eventually(server.make_bucket, within_s=30)
            yield server
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
