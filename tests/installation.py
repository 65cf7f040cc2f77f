"""A whole installation inside the test's process: the real app and real workers on a real Redis and database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from aiohttp import ClientSession, web

from api.__main__ import open_state
from api.serving import open_runner
from api.state import State
from shared.database import sqlite_path
from shared.queue.connections import open_pool
from shared.queue.lanes import INFERENCE, open_lane
from shared.settings import Settings
from tests.databases import prepared_sqlite
from worker.__main__ import build_workers, open_runtime
from worker.bootstrap import SIMULATED, prepare
from worker.context import Runtime
from worker.engine import LeasedWorker
from worker.leases import new_token

ADMIN_KEY = "sk-admin-key-of-the-tests-0123456789"
FIRST_MODELS = list(SIMULATED)
"""Of the first start; their routers are 1, 2, .."""


class Installation:
    """What a test may touch: HTTP through `get`, `post`, `patch`, `delete`; the rest for looking behind the curtain."""

    def __init__(self, state: State, client: ClientSession, url: str) -> None:
        self.state = state
        self.client = client
        self.url = url
        self.runtime: Runtime | None = None
        self.headers = {"Authorization": f"Bearer {ADMIN_KEY}"}

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        headers = self.headers | options.pop("headers", {})
        return await self.client.post(path, json=body, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> Any:
        return await self.client.get(path, headers=self.headers | options.pop("headers", {}), **options)

    async def delete(self, path: str, **options: Any) -> Any:
        return await self.client.delete(path, headers=self.headers | options.pop("headers", {}), **options)

    async def patch(self, path: str, body: Any, **options: Any) -> Any:
        headers = self.headers | options.pop("headers", {})
        return await self.client.patch(path, json=body, headers=headers, **options)

    async def chat(self, text: str = "Hello", **members: Any) -> Any:
        """Post a chat to the simulator; `headers` go to the request, everything else into the body."""
        headers = members.pop("headers", {})
        body = {"model": "simulator", "messages": [{"role": "user", "content": text}]} | members
        return await self.post("/v1/chat/completions", body, headers=headers)

    async def job(self, job_id: str) -> Any:
        """Return the job as JSON."""
        return await (await self.get(f"/v1/jobs/{job_id}")).json()

    async def rows(self, table: Any, *conditions: Any) -> list[Any]:
        """Return rows of a table, read from the database."""
        from sqlmodel import select  # noqa: PLC0415

        async with self.state.database.read() as session:
            return list((await session.exec(select(table).where(*conditions))).all())

    async def add_model(self, name: str, url: str | None = None, **members: Any) -> dict[str, Any]:
        """Create a router for every role with one provider and return that; `prices` are per million tokens."""
        prompt, completion = members.pop("prices", (0, 0))
        router_type = members.pop("router_type", "text-generation")
        router = await self.post(
            "/v1/admin/routers",
            {
                "name": name,
                "type": router_type,
                "cost_prompt_tokens": prompt,
                "cost_completion_tokens": completion,
            },
        )
        assert router.status == 201, await router.text()
        router_id = (await router.json())["id"]
        await self.grant(router_id)
        return await self.add_provider(router_id, url, **members)

    async def grant(self, router_id: int, **limits: int | None) -> None:
        """Give every role these limits on a router; without any, the router is unlimited."""
        added = [
            {"router": router_id, "type": kind, "value": value} for kind, value in (limits or {"rpm": None}).items()
        ]
        for role in (await (await self.get("/v1/admin/roles?limit=100")).json())["data"]:
            kept = [limit for limit in role["limits"] if limit["router"] != router_id]
            changed = await self.patch(f"/v1/admin/roles/{role['id']}", {"limits": kept + added})
            assert changed.status == 204, await changed.text()

    async def add_provider(self, router_id: int, url: str | None = None, **members: Any) -> dict[str, Any]:
        """Add a provider: the simulator, or an OpenAI-compatible server at `url`."""
        body: dict[str, Any] = {
            "router": router_id,
            "type": "simulator",
            "model_name": "upstream-model",
            "probe": False,
        }
        if url is not None:
            body |= {"type": "openai", "url": url}  # `members` may name another type
        provider = await self.post("/v1/admin/providers", body | members)
        assert provider.status == 201, await provider.text()
        created: dict[str, Any] = await provider.json()
        return created


@asynccontextmanager
async def open_installation(settings: Settings, *, workers: bool = True) -> AsyncIterator[Installation]:
    """Yield a prepared, running installation; without workers jobs stay queued."""
    path = sqlite_path(settings.effective_database_url())
    if path is not None and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(await asyncio.to_thread(prepared_sqlite))
    await prepare(settings)
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(open_state(settings))
        url = await stack.enter_async_context(serve(state))
        client = await stack.enter_async_context(ClientSession(url))
        installation = Installation(state, client, url)
        if workers:
            installation.runtime = await stack.enter_async_context(run_workers(settings))
        yield installation


@asynccontextmanager
async def serve(state: State) -> AsyncIterator[str]:
    """Yield the URL of the app, served as `api.__main__` does."""
    runner = open_runner(state, shutdown_timeout_s=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield "http://{}:{}".format(*runner.addresses[0][:2])
    await runner.cleanup()


@asynccontextmanager
async def run_workers(settings: Settings, shard: int = 0) -> AsyncIterator[Runtime]:
    """Yield the runtime of both lanes' workers, running in this event loop; they drain at the end."""
    pool, token = open_pool(settings.redis_urls()[shard]), new_token()
    redis = open_lane(pool, INFERENCE)
    async with open_runtime(settings, redis, token, shard) as runtime:
        workers = build_workers(settings, runtime, redis, token)
        for worker in workers:
            worker.main_task = asyncio.get_running_loop().create_task(worker.main())
        try:
            yield runtime
        finally:
            await asyncio.gather(*(_stop(worker) for worker in workers))
    await pool.disconnect()


async def _stop(worker: LeasedWorker) -> None:
    await worker.drain()
    if worker.main_task is not None:
        with suppress(asyncio.CancelledError):
            await worker.main_task
