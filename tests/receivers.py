"""A receiver of webhooks over real HTTP: it keeps what it gets and answers what the test scripted."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
EVENTS = ["job.completed", "job.failed", "job.cancelled", "job.expired", "job.incomplete"]


class Received(Struct, frozen=True):
    """One try as it came in."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return str(self.body["type"])


class Receiver:
    """Answers each try with the next of `script`; when that is empty, with `default`."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.script: list[Answer] = []
        self.default: Answer = says(204)
        self.running = 0
        self.most = 0
        """Tries at once."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, raw))
        answer = self.script.pop(0) if self.script else self.default
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await answer(request)
        finally:
            self.running -= 1

    def of_type(self, name: str) -> list[Received]:
        return [one for one in self.received if one.type == name]


@asynccontextmanager
async def serve_receiver() -> AsyncIterator[Receiver]:
    """Yield a running receiver."""
    receiver = Receiver()
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    server = TestServer(app)
    await server.start_server()
    receiver.url = str(server.make_url("/hooks"))
    yield receiver
    await server.close()


def says(status: int, text: str = "", **headers: str) -> Answer:
    """Answer with a status, a text and headers; `_` in their names is `-`."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, text=text, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return answer


async def hang(_request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(600)
    raise AssertionError("nobody waits that long")


async def reset(request: web.Request) -> web.StreamResponse:
    """Break the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def send_a_gigabyte(request: web.Request) -> web.StreamResponse:
    """Answer 200 with a body that no receiver of good will sends."""
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        for _ in range(1024):
            await response.write(b"x" * 1024 * 1024)
    return response
