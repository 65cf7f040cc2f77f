"""Providers that miss their quality of service are avoided, until they keep it again."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.installation import Installation
from tests.providers import Behaviour, says
from tests.routed import add_router, ask, gets_traffic
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("metric", "limit", "is_avoided"),
    [
        ("latency", 100, True), ("latency", 60_000, False), ("performance", 1e6, True), ("performance", 0.001, False),
        ("ttft", 100, True), ("ttft", 60_000, False),
    ],
)  # fmt: skip
async def test_quality_of_service_is_kept(
    sluice: Installation, two: Any, metric: str, limit: float, is_avoided: bool
) -> None:
    slow, other = two
    slow.default = slowly("A slow answer.", 0.25)
    is_stream = metric == "ttft"
    await add_router(sluice, {"url": slow.url, "qos_metric": metric, "qos_limit": limit}, {"url": other.url})
    while not slow.requests:
        await ask(sluice, 4, stream=is_stream)
    await asyncio.sleep(1.2)  # until its figures have made the round
    await ask(sluice, 4, stream=is_stream)  # one of them may be the probe of these ten seconds
    before = len(slow.requests)

    await ask(sluice, 30, stream=is_stream)

    assert (len(slow.requests) - before <= 1) == is_avoided


def slowly(text: str, delay_s: float) -> Behaviour:
    """Answer after a while, whole or as a stream."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        return await says(text)(request, body)

    return behave


async def test_a_provider_that_keeps_its_quality_again_is_used_again(sluice: Installation, two: Any) -> None:
    slow, other = two
    slow.default = slowly("A slow answer.", 0.25)
    await add_router(sluice, {"url": slow.url, "qos_metric": "latency", "qos_limit": 100}, {"url": other.url})
    while not slow.requests:
        await ask(sluice, 4)
    slow_samples = await eventually(lambda: _find_slow_samples(sluice))
    slow.default = says("A quick answer.")

    await sluice.state.redis.delete(slow_samples)  # two minutes have passed

    before = len(slow.requests)
    await eventually(lambda: gets_traffic(sluice, slow, above=before + 10))


async def _find_slow_samples(sluice: Installation) -> bytes | None:
    """Return the key of the samples that say more than 200 ms, once they are there."""
    redis = sluice.state.redis
    async for key in redis.scan_iter("sluice:provider:*:samples"):
        if any(float(member.split(b":")[1]) > 200 for member in await redis.zrange(key, 0, -1)):
            return bytes(key)
    return None
