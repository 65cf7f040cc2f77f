"""Which provider an attempt goes to: strategies, limits, breaker, quality of service, fallback."""

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.clock import now_ms
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.conftest import make_settings
from tests.installation import Installation, open_installation, run_workers
from tests.people import PROVIDERS, ROUTERS, changed, create, read
from tests.providers import Behaviour, ScriptedProvider, cuts_at_once, fails, hangs, says
from tests.routed import add_router, ask, attempts, gets_traffic
from tests.servers import RedisServer
from tests.waiting import eventually
from worker.context import Runtime


async def test_shuffle_uses_every_provider(sluice: Installation, two: Any) -> None:
    first, second = two
    await add_router(sluice, {"url": first.url}, {"url": second.url})

    assert set(await ask(sluice, 40)) == {200}

    assert len(first.requests) + len(second.requests) == 40
    assert min(len(first.requests), len(second.requests)) > 5


async def test_weights_share_out_the_attempts(sluice: Installation, two: Any) -> None:
    first, second = two
    await add_router(
        sluice, {"url": first.url, "weight": 9}, {"url": second.url, "weight": 1}, load_balancing_strategy="weighted"
    )

    await ask(sluice, 100)

    assert len(first.requests) > 70
    assert len(second.requests) > 0


async def test_the_provider_that_emits_least_is_preferred(sluice: Installation, two: Any) -> None:
    dirty, clean = two
    sizes = {"model_total_params": 70, "model_active_params": 70}
    await add_router(
        sluice,
        {"url": dirty.url, "model_hosting_zone": "POL", **sizes},
        {"url": clean.url, "model_hosting_zone": "FRA", **sizes},
        {"url": dirty.url + "unknown", "model_hosting_zone": "FRA"},
        load_balancing_strategy="lowest_carbon",
    )

    await ask(sluice, 20)

    assert (len(dirty.requests), len(clean.requests)) == (0, 20)


async def test_the_least_busy_provider_gets_the_next_attempt(sluice: Installation, two: Any) -> None:
    slow, fast = two
    slow.default, fast.default = says("Slow.", delay_s=1.5), says("Fast.", delay_s=0.05)
    await add_router(sluice, {"url": slow.url}, {"url": fast.url}, load_balancing_strategy="least_busy")

    waiting = asyncio.gather(*(ask(sluice) for _ in range(4)))
    await eventually(lambda: slow.running + fast.running > 0)
    for _ in range(20):
        await ask(sluice)
    await waiting

    assert len(fast.requests) > len(slow.requests) * 2


async def test_a_new_provider_of_a_busy_routergets_traffic(sluice: Installation, two: Any) -> None:
    old, new = two
    old.default = says("Old.", delay_s=0.1)
    router = await add_router(sluice, {"url": old.url}, load_balancing_strategy="least_busy")
    await ask(sluice, 10)

    await sluice.add_provider(router, new.url, model_name="new")
    await eventually(lambda: gets_traffic(sluice, new))


@pytest.mark.parametrize("strategy", ["shuffle", "least_busy", "weighted"])
async def test_an_inflight_limit_is_exact(both: Installation, provider: ScriptedProvider, strategy: str) -> None:
    seen: list[int] = []

    async def watch(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.append(provider.running)
        return await says("Yes.", delay_s=0.05)(request, body)

    provider.default = watch
    limit = {"qos_metric": "inflight", "qos_limit": 2}
    await add_router(both, {"url": provider.url, **limit}, load_balancing_strategy=strategy)

    assert set(await ask(both, 20)) == {200}

    assert max(seen) == 2


async def test_a_caller_of_a_full_model_is_sent_away_and_background_work_waits(
    tmp_path: Path, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    provider.default = says("Late.", delay_s=3)
    async with open_installation(make_settings(tmp_path, redis_server, routing_wait_s=0.5)) as installation:
        await add_router(installation, {"url": provider.url, "qos_metric": "inflight", "qos_limit": 1})
        first = asyncio.ensure_future(installation.chat(model="routed"))
        await eventually(lambda: provider.running == 1)

        later = await installation.chat(model="routed", headers={"Prefer": "respond-async"})
        refused, streamed = (
            await installation.chat(model="routed"),
            await installation.chat(model="routed", stream=True),
        )

        for answer in (refused, streamed):
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "model_busy"
            assert answer.headers["retry-after"]
            job = await installation.job(answer.headers["x-job-id"])
            assert (job["status"], job["attempt"]) == ("cancelled", 0)
        assert (await first).status == 200
        await eventually(lambda: _is(installation, later, "completed"))


async def _is(installation: Installation, answer: Any, status: str) -> bool:
    return bool((await installation.job(answer.headers["x-job-id"]))["status"] == status)


async def test_a_limit_of_zero_closes_a_provider(
    tmp_path: Path, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, routing_wait_s=0.5)) as installation:
        await add_router(installation, {"url": provider.url, "qos_metric": "inflight", "qos_limit": 0})
        await eventually(lambda: _cap_is_known(installation))

        assert await ask(installation) == [503]

        assert provider.requests == []


async def _cap_is_known(installation: Installation) -> bool:
    return bool(await installation.state.redis.hlen("sluice:inference:caps"))


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (fails(500), 500, "http_5xx"), (fails(429), 429, "http_429"), (fails(401), 401, "http_401"),
        (fails(404), 404, "http_404"), (hangs(), None, "timeout"), (cuts_at_once(), None, "connection"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_failing_provider_is_not_the_callers_problem(
    sluice: Installation, two: Any, failure: Behaviour, status: int | None, reason: str, *, is_stream: bool
) -> None:
    bad, good = two
    bad.default = failure
    await add_router(
        sluice, {"url": bad.url, "weight": 1e6, "timeout": 1}, {"url": good.url}, load_balancing_strategy="weighted"
    )

    answer = await sluice.chat(model="routed", stream=is_stream)

    assert answer.status == 200
    text = await answer.text()
    assert ("Hello!" in text, "[DONE]" in text) == (True, is_stream)
    first, second = await attempts(sluice, answer)
    assert (first["status"], first["http_status"], first["retry_reason"]) == ("failed", status, reason)
    assert (second["status"], second["provider_id"] != first["provider_id"]) == ("succeeded", True)
    assert second["usage"]["total_tokens"] == 12
    assert len(await sluice.rows(JobRow)) == len(await sluice.rows(ChargeRow)) == 1


async def test_every_provider_is_tried_however_many_fail(sluice: Installation, two: Any) -> None:
    bad, good = two
    bad.default = fails(500)
    providers = [{"url": bad.url, "weight": 1e6} for _ in range(4)]
    await add_router(sluice, *providers, {"url": good.url, "weight": 1e-6}, load_balancing_strategy="weighted")

    answer = await sluice.chat(model="routed")

    assert answer.status == 200
    seen = await attempts(sluice, answer)
    assert [one["status"] for one in seen] == ["failed"] * 4 + ["succeeded"]
    assert len({one["provider_id"] for one in seen}) == 5
    job = await sluice.job(answer.headers["x-job-id"])
    assert (job["attempt"], job["max_attempts"]) == (5, 5)


async def test_the_breaker_of_one_worker_holds_for_the_others(sluice: Installation, two: Any) -> None:
    busy, free = two
    busy.default = fails(429, **{"Retry-After": "60"})
    async with run_workers(sluice.state.settings) as other:
        router = await add_router(sluice, {"url": busy.url}, {"url": free.url})
        while not busy.requests:
            await ask(sluice)

        paused, _ = (await read(sluice, f"{PROVIDERS}?router={router}"))["data"]
        assert sluice.runtime is not None
        for runtime in (sluice.runtime, other):
            await eventually(partial(_knows_a_pause, runtime, paused["id"]))


def _knows_a_pause(runtime: Runtime, provider_id: int) -> bool:
    return runtime.routing.health.opens_ms(provider_id) > now_ms()


async def test_the_breaker_opens_after_failures_and_closes_after_a_success(sluice: Installation, two: Any) -> None:
    bad, good = two
    bad.default = fails(500)
    await add_router(sluice, {"url": bad.url}, {"url": good.url})
    await eventually(lambda: _is_paused(sluice))
    before = len(bad.requests)
    assert before >= 5

    assert set(await ask(sluice, 20)) == {200}
    assert len(bad.requests) == before

    redis = sluice.state.redis
    (number,) = await redis.zrange("sluice:providers:open", 0, -1)
    bad.default = says("Well again.")
    await redis.zadd("sluice:providers:open", {number: 1})  # its pause is over
    await eventually(lambda: gets_traffic(sluice, bad, above=before))
    assert await redis.zcard("sluice:providers:open") == 0


async def _is_paused(installation: Installation) -> bool:
    assert set(await ask(installation)) == {200}
    return bool(await installation.state.redis.zcard("sluice:providers:open"))


async def test_a_provider_that_asks_for_a_pause_gets_it(sluice: Installation, two: Any) -> None:
    busy, free = two
    busy.default = fails(429, **{"Retry-After": "60"})
    await add_router(sluice, {"url": busy.url}, {"url": free.url})
    while not busy.requests:
        await ask(sluice)

    assert set(await ask(sluice, 20)) == {200}

    assert len(busy.requests) == 1


async def test_all_providers_out_is_told_truthfully(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = fails(503, **{"Retry-After": "60"})
    await add_router(sluice, {"url": provider.url})

    first, second = await sluice.chat(model="routed"), await sluice.chat(model="routed")

    for answer in (first, second):
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "provider_unavailable"
    assert len(provider.requests) == 1
    assert await attempts(sluice, second) == []


async def test_a_fallback_router_answers_when_all_providers_are_out(sluice: Installation, two: Any) -> None:
    bad, smaller = two
    bad.default = fails(500)
    fallback = await create(sluice, ROUTERS, name="smaller", type="text-generation")
    await sluice.add_provider(fallback["id"], smaller.url)
    router = await add_router(sluice, {"url": bad.url}, fallback=fallback["id"], cost_completion_tokens=10)

    answer = await sluice.chat(model="routed")

    assert answer.status == 200
    assert (await answer.json())["model"] == "routed"
    assert [one["status"] for one in await attempts(sluice, answer)] == ["failed", "succeeded"]
    assert (await answer.json())["usage"]["cost"] == 0.000_03
    await changed_router(sluice, router, fallback=None)
    await eventually(lambda: _is_out(sluice))


async def _is_out(installation: Installation) -> bool:
    return await ask(installation) == [503]


async def changed_router(installation: Installation, router: int, **members: Any) -> None:
    response = await installation.patch(f"{ROUTERS}/{router}", members)
    assert response.status == 200, await response.text()


async def test_a_fallback_must_do_the_same_work(sluice: Installation) -> None:
    other = await create(sluice, ROUTERS, name="vectors", type="text-embeddings-inference")
    router = await add_router(sluice, {})

    answers = [
        await sluice.patch(f"{ROUTERS}/{router}", {"fallback": number}) for number in (router, other["id"], 10**6)
    ]

    assert [answer.status for answer in answers] == [422, 422, 404]


async def test_slots_of_attempts_are_free_afterwards(sluice: Installation, provider: ScriptedProvider) -> None:
    await add_router(sluice, {"url": provider.url, "qos_metric": "inflight", "qos_limit": 3})
    await ask(sluice, 9)

    (number,) = [one["id"] for one in (await read(sluice, PROVIDERS + "?limit=100"))["data"] if one["qos_metric"]]
    key = f"sluice:provider:{number}:running"

    await eventually(lambda: _is_empty(sluice, key))
    await changed(sluice, f"{PROVIDERS}/{number}", {"qos_metric": None})
    assert (await read(sluice, f"{PROVIDERS}/{number}"))["qos_limit"] is None
    assert Counter(await ask(sluice, 9)) == {200: 9}


async def _is_empty(installation: Installation, key: str) -> bool:
    return not await installation.state.redis.exists(key)


async def test_the_health_of_providers_is_told(both: Installation, two: Any) -> None:
    bad, good = two
    bad.default = fails(429, **{"Retry-After": "60"})
    limit = {"qos_metric": "inflight", "qos_limit": 5}
    router = await add_router(both, {"url": bad.url}, {"url": good.url, **limit})
    path = f"{ROUTERS}/{router}/health"
    assert {one["status"] for one in (await read(both, path))["providers"]} == {"green"}

    await eventually(lambda: _is_red(both, path))

    health = await eventually(lambda: _has_figures(both, path))
    paused, well = health["providers"]
    assert (paused["breaker"], paused["failures"], paused["status"]) == ("open", 1, "red")
    assert paused["opens_at"] is not None
    assert (well["breaker"], well["status"], well["running"], well["limit"]) == ("closed", "green", 0, 5)
    models = {one["id"]: one["status"] for one in (await read(both, "/health/models"))["data"]}
    assert (models["routed"], models["simulator"]) == ("red", "green")
    assert (await both.get(f"{ROUTERS}/999/health")).status == 404


async def _is_red(installation: Installation, path: str) -> bool:
    await ask(installation)
    return bool((await read(installation, path))["status"] == "red")


async def _has_figures(installation: Installation, path: str) -> Any:
    health = await read(installation, path)
    return health if health["providers"][1]["latency_p95_ms"] is not None else None
