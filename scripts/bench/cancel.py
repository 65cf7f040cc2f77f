"""From the request to cancel a running job to the end of the provider's call: `cancel`."""

import asyncio
import time
from statistics import median
from typing import Any

import machine
import uvloop
from aiohttp import ClientSession, web
from installation import Installation, open_installation
from load import percentile
from measure import Row, Setup

_CALLS = 40
_WITHIN_S = 10.0


def run_cancel(database: str, setup: Setup) -> list[Row]:
    """Cancel jobs one by one whose provider never answers."""
    with open_installation(database, setup.postgres) as installation:
        took_ms = sorted(uvloop.run(_cancel_all(installation)))
    row: Row = {
        "name": "cancel", "database": database, "gateway": "sluice", "jobs": len(took_ms),
        "p50_ms": round(median(took_ms), 2), "p99_ms": round(percentile(took_ms, 99), 2),
        "max_ms": round(took_ms[-1], 2),
    }  # fmt: skip
    machine.say(str(row))
    return [row]


async def _cancel_all(installation: Installation) -> list[float]:
    """Return the milliseconds from each request to cancel to the end of its call."""
    called: asyncio.Queue[None] = asyncio.Queue()
    broken: asyncio.Queue[float] = asyncio.Queue()

    async def hang(_request: web.Request) -> web.Response:
        called.put_nowait(None)
        try:
            await asyncio.sleep(60)
        finally:
            broken.put_nowait(time.perf_counter())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/chat/completions", hang)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    await asyncio.to_thread(_add_model, installation, url)
    took_ms = []
    async with ClientSession(headers=installation.headers) as http:
        for _ in range(_CALLS):
            body = {"model": "silent", "messages": [{"role": "user", "content": "Hi"}]}
            headers = {"Prefer": "respond-async"}
            async with http.post(f"{installation.url}/chat/completions", json=body, headers=headers) as response:
                job: Any = await response.json()
            async with asyncio.timeout(_WITHIN_S):
                await called.get()
                began = time.perf_counter()
                async with http.post(f"{installation.url}/jobs/{job['id']}/cancel") as response:
                    response.raise_for_status()
                took_ms.append((await broken.get() - began) * 1000)
    await runner.cleanup()
    return took_ms


def _add_model(installation: Installation, url: str) -> None:
    router = installation.ask("POST", "/admin/routers", {"name": "silent", "type": "text-generation"})
    provider = {"router": router["id"], "type": "openai", "url": url, "model_name": "silent", "probe": False}
    installation.ask("POST", "/admin/providers", provider)
