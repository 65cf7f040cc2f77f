"""`webhooks`: how soon after its end a job is told to a receiver, and what that costs the caller.

Delay: from the end of the job, as its row has it, to the arrival of the event, in ms by the clock of this machine, with
1 and with 32 connections.  Chats with and without an endpoint are sent in turn, by two users; the rates are those of
the callers.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median, quantiles
from typing import Any

import uvloop
from aiohttp import web
from chat import gateway_of
from http1 import Connection, encode
from installation import CHAT_BODY, Installation, open_installation
from machine import BenchError
from measure import Row, Setup

_CHATS = {1: 200, 32: 1920}
"""Connections → chats of each round."""
_ARRIVE_WITHIN_S = 120.0
_SETTINGS = {
    "webhook_allow_http": "true", "webhook_allow_literals": "true", "webhook_allow_networks": "127.0.0.1/32",
}  # fmt: skip
_ENDED = "SELECT id, finished_ms FROM jobs WHERE notify IS NOT NULL"


def run_webhooks(database: str, setup: Setup) -> list[Row]:
    """Measure the delay of events and the rate of chats with and without an endpoint."""
    with open_installation(database, setup.postgres, **_SETTINGS) as installation:
        rows = uvloop.run(_measure(installation, setup))
        gateway_of(installation).settle()
        installation.ledger.check()
    return [{"name": name, "database": database, "gateway": "sluice", **row} for name, row in rows]


async def _measure(installation: Installation, setup: Setup) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    async with _serve() as (url, arrived):
        ask = asyncio.to_thread
        body = {"name": "bench", "url": url, "event_types": ["job.completed", "job.failed"]}
        user = {"email": "quiet@example.com", "password": "correct horse battery", "role": 2}
        user_id = (await ask(installation.ask, "POST", "/admin/users", user))["id"]
        token = await ask(installation.ask, "POST", "/admin/tokens", {"name": "quiet", "user": user_id})
        quiet = {"Authorization": f"Bearer {token['key']}"}
        await ask(installation.ask, "POST", "/webhook_endpoints", body)
        for connections, chats in _CHATS.items():
            arrived.clear()
            rates: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(setup.rounds):
                for is_told, headers in ((True, installation.headers), (False, quiet)):
                    rates[is_told].append(await _chat(installation, headers, connections, chats))
                    await _wait_for(arrived, chats * len(rates[True]))
            delays = await ask(_delays, installation, arrived)
            rows.append((f"webhooks: {connections}", _row(delays, rates)))
    return rows


@asynccontextmanager
async def _serve() -> AsyncIterator[tuple[str, dict[str, float]]]:
    """Yield the URL of a receiver, and when events came in by the id of their job, in Unix ms."""
    arrived: dict[str, float] = {}

    async def take(request: web.Request) -> web.Response:
        now = time.time() * 1000
        arrived.setdefault(json.loads(await request.read())["data"]["id"], now)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hooks", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield "http://{}:{}/hooks".format(*runner.addresses[0][:2]), arrived
    await runner.cleanup()


async def _chat(installation: Installation, headers: dict[str, str], connections: int, chats: int) -> float:
    """Send so many chats and return how many were answered per second."""
    request = encode(
        "POST", f"{installation.url}/chat/completions", {"Content-Type": "application/json", **headers}, CHAT_BODY
    )

    async def send_some() -> None:
        connection = Connection(installation.url)
        for _ in range(chats // connections):
            response = await connection.send(request, 30)
            if response.status != 200:
                raise BenchError(f"webhooks: {response.status} {response.body[:300]!r}")
        connection.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(send_some())
    return chats // connections * connections / (time.perf_counter() - began)


async def _wait_for(arrived: dict[str, float], count: int) -> None:
    deadline = time.monotonic() + _ARRIVE_WITHIN_S
    while len(arrived) < count:
        if time.monotonic() > deadline:
            raise BenchError(f"webhooks: {len(arrived)} of {count} events arrived")
        await asyncio.sleep(0.05)


def _delays(installation: Installation, arrived: dict[str, float]) -> list[float]:
    """Return the ms from the end of each job to its event."""
    ended = {f"job_{row[0]}": row[1] for row in installation.ledger.rows(_ENDED)}
    return [moment - ended[job_id] for job_id, moment in arrived.items()]


def _row(delays: list[float], rates: dict[bool, list[float]]) -> Row:
    found: dict[str, Any] = {
        "events": len(delays), "delay_p50_ms": round(median(delays), 1),
        "delay_p99_ms": round(quantiles(delays, n=100)[98], 1), "chats_per_s_told": round(median(rates[True]), 1),
        "chats_per_s_untold": round(median(rates[False]), 1),
    }  # fmt: skip
    return found
