"""A model of several providers, `routed`, and what happens to its chats."""

import asyncio
from typing import Any

from tests.installation import Installation
from tests.people import ROUTERS, create, read
from tests.providers import ScriptedProvider


async def add_router(installation: Installation, *providers: dict[str, Any], **members: Any) -> int:
    """Create a router with these providers and grant it to everybody; returns its id."""
    router = await create(installation, ROUTERS, **({"name": "routed", "type": "text-generation"} | members))
    await installation.grant(router["id"])
    for number, provider in enumerate(providers):
        await installation.add_provider(router["id"], **({"model_name": f"m{number}"} | provider))
    if installation.runtime is not None:
        await installation.runtime.directory.refresh()  # the worker knows all of them from the first attempt on
    return int(router["id"])


async def ask(installation: Installation, count: int = 1, **members: Any) -> list[int]:
    """Send chats at once; returns their statuses."""
    answers = await asyncio.gather(*(installation.chat(model="routed", **members) for _ in range(count)))
    return [answer.status for answer in answers]


async def attempts(installation: Installation, answer: Any) -> list[dict[str, Any]]:
    """Return the attempts of the job behind an answer."""
    data = (await read(installation, f"/v1/jobs/{answer.headers['x-job-id']}/attempts"))["data"]
    return list(data)


async def gets_traffic(installation: Installation, provider: ScriptedProvider, above: int = 0) -> bool:
    await ask(installation, 4)
    return len(provider.requests) > above
