"""Requests and tokens per minute and day: counted, refused, corrected, told in headers."""

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from api.__main__ import open_state
from shared.jobs.tables import JobRow
from tests.conftest import make_settings
from tests.faults.processes import free_port
from tests.installation import Installation, open_installation, serve
from tests.people import ROLES, add_user, bearer, changed, create, key_of, read, refused
from tests.providers import ScriptedProvider, says, usage
from tests.servers import RedisServer, TcpRedisServer
from tests.waiting import eventually


async def limited(installation: Installation, **limits: int | None) -> dict[str, str]:
    """Return the headers of a user with these limits on the simulator."""
    rows = [{"router": 1, "type": kind, "value": value} for kind, value in limits.items()]
    role = await create(installation, ROLES, name="limited", limits=rows)
    user = await add_user(installation, "limited@example.com", role=role["id"])
    return await key_of(installation, user["id"])


async def set_limits(installation: Installation, **limits: int | None) -> None:
    """Replace the limits of that role, and wait until they hold."""
    role = next(one for one in (await read(installation, ROLES))["data"] if one["name"] == "limited")
    rows = [{"router": 1, "type": kind, "value": value} for kind, value in limits.items()]
    await changed(installation, f"{ROLES}/{role['id']}", {"limits": rows})


async def test_requests_above_the_limit_are_refused_and_count_nothing(both: Installation) -> None:
    me = await limited(both, rpm=2)

    accepted = [(await both.chat(headers=me)).status for _ in range(2)]
    last = None
    for _ in range(5):
        last = await both.chat(headers=me)

    assert accepted == [200, 200]
    assert last is not None
    assert await refused(last) == (429, "2 requests per minute exceeded (remaining: 0).")
    assert 1 <= int(last.headers["retry-after"]) <= 60
    assert len(await both.rows(JobRow)) == 2


async def test_the_first_limit_that_is_reached_gives_the_reason(sluice: Installation) -> None:
    me = await limited(sluice, rpd=1, tpm=5, tpd=10**6)

    too_long = await sluice.chat("word " * 40, headers=me)
    first = await sluice.chat("Hi", headers=me)
    both_reached = await sluice.chat("word " * 40, headers=me)

    assert await refused(too_long) == (429, "5 input tokens per minute exceeded (remaining: 5).")
    assert first.status == 200
    assert await refused(both_reached) == (429, "1 requests per day exceeded (remaining: 0).")


async def test_a_stock_client_is_told_to_wait_120_s_at_most(sluice: Installation) -> None:
    me = await limited(sluice, rpm=2, rpd=4)
    for _ in range(2):
        assert (await sluice.chat("Hi", headers=me)).status == 200
    soon = await sluice.chat("Hi", headers=me)
    await set_limits(sluice, rpd=2)

    late = await sluice.chat("Hi", headers=me)

    assert int(soon.headers["retry-after"]) <= 60
    assert soon.headers["retry-after-ms"] == soon.headers["retry-after"] + "000"
    assert "x-should-retry" not in soon.headers
    names = ("retry-after", "retry-after-ms", "x-should-retry")
    assert [late.headers[name] for name in names] == ["120", "120000", "false"]


async def test_what_does_not_fit_the_schema_uses_nothing(sluice: Installation) -> None:
    me = await limited(sluice, rpm=1)

    bad = [await sluice.chat(temperature=5, headers=me), await sluice.chat(model="nobody", headers=me)]
    good = await sluice.chat(headers=me)

    assert [answer.status for answer in bad] == [422, 404]
    assert good.status == 200


async def test_tokens_are_those_of_the_provider_prompt_and_answer(
    both: Installation, provider: ScriptedProvider
) -> None:
    made = await both.add_model("paid", provider.url)
    provider.default = says("Hello!", reported=usage(30, 12))
    await both.grant(made["router_id"], tpm=1000)
    user = await add_user(both)
    me = await key_of(both, user["id"])

    first = await both.chat("x" * 400, model="paid", headers=me)
    second = await both.chat("x" * 400, model="paid", headers=me)

    assert first.headers["x-ratelimit-remaining-tokens"] == str(1000 - 104)
    assert second.headers["x-ratelimit-remaining-tokens"] == str(1000 - 42 - 104)


async def test_a_failed_job_gives_its_tokens_back_but_not_its_request(sluice: Installation) -> None:
    me = await limited(sluice, rpm=10, tpm=1000)

    failed = await sluice.chat("x" * 400, simulator={"fail": "400"}, headers=me)
    after = await sluice.chat("Hi", headers=me)

    assert failed.status == 400
    assert after.headers["x-ratelimit-remaining-requests"] == "8"
    assert after.headers["x-ratelimit-remaining-tokens"] == "996"


async def test_headers_show_the_window_with_the_smaller_share_left(sluice: Installation) -> None:
    me = await limited(sluice, rpm=10, rpd=2, tpm=None, tpd=50_000)

    answer = await sluice.chat("Hi", headers=me)
    stream = await sluice.chat("Hi", stream=True, headers=me)
    refusal = await sluice.chat("Hi", headers=me)

    shown = answer.headers
    assert (shown["x-ratelimit-limit-requests"], shown["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert re.fullmatch(r"(24h0m0s|23h59m\d+s)", shown["x-ratelimit-reset-requests"])
    assert (shown["x-ratelimit-limit-tokens"], shown["x-ratelimit-limit-token"]) == ("50000", "50000")
    assert shown["RateLimit-Policy"] == '"rpm";q=10;w=60, "rpd";q=2;w=86400, "tpd";q=50000;w=86400'
    assert re.match(r'"rpm";r=9;t=\d+, "rpd";r=1;t=\d+, "tpd";r=\d+;t=\d+$', shown["RateLimit"])
    assert stream.headers["x-ratelimit-remaining-request"] == "0"
    assert refusal.status == 429
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"


async def test_unlimited_dimensions_and_unlimited_callers_have_no_headers(sluice: Installation) -> None:
    me = await limited(sluice, rpm=None, tpm=100)

    limited_answer, master = await sluice.chat(headers=me), await sluice.chat()

    assert "x-ratelimit-limit-requests" not in limited_answer.headers
    assert "x-ratelimit-limit-tokens" in limited_answer.headers
    assert not [name for name in master.headers if "ratelimit" in name.lower()]


async def test_a_changed_limit_keeps_what_was_counted(both: Installation) -> None:
    me = await limited(both, rpd=10)
    for _ in range(5):
        assert (await both.chat(headers=me)).status == 200

    await set_limits(both, rpd=50)

    answer = await both.chat(headers=me)
    assert answer.headers["x-ratelimit-remaining-requests"] == "44"


async def test_what_was_counted_survives_a_restart_of_the_api(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = make_settings(tmp_path, redis_server)
    async with open_installation(settings) as first:
        me = await limited(first, rpd=10)
        assert (await first.chat(headers=me)).status == 200

    async with open_installation(settings) as second:
        answer = await second.chat(headers=me)

    assert answer.headers["x-ratelimit-remaining-requests"] == "8"


async def test_users_of_one_role_are_counted_apart(sluice: Installation) -> None:
    first = await limited(sluice, rpm=1)
    role = next(one for one in (await read(sluice, ROLES))["data"] if one["name"] == "limited")
    other = await key_of(sluice, (await add_user(sluice, "other@example.com", role=role["id"]))["id"])

    answers = [(await sluice.chat(headers=one)).status for one in (first, first, other)]

    assert answers == [200, 429, 200]


async def test_keys_of_one_user_are_counted_together(sluice: Installation) -> None:
    me = await limited(sluice, rpm=1)
    info = await read(sluice, "/v1/me/info", headers=me)
    other_key = await key_of(sluice, info["id"])

    answers = [(await sluice.chat(headers=one)).status for one in (me, other_key)]

    assert answers == [200, 429]


async def test_ten_api_processes_admit_exactly_the_limit(both: Installation) -> None:
    me = await limited(both, rpm=37, tpm=10**9)
    states = [await open_api(both) for _ in range(9)]
    urls = [both.url, *(url for _, url in states)]

    async def ask(number: int) -> int:
        body = {"model": "simulator", "messages": [{"role": "user", "content": f"{number}"}]}
        url = urls[number % len(urls)] + "/v1/chat/completions"
        async with both.client.post(url, json=body, headers=me) as response:
            await response.read()
            return int(response.status)

    statuses = await asyncio.gather(*(ask(number) for number in range(150)))

    for closing, _ in states:
        await closing.aclose()
    assert sorted(set(statuses)) == [200, 429]
    assert statuses.count(200) == 37
    assert len(await both.rows(JobRow)) == 37


async def open_api(installation: Installation) -> tuple[AsyncExitStack, str]:
    """Open one more api with its own connections; returns what closes it, and its URL."""
    stack = AsyncExitStack()
    state = await stack.enter_async_context(open_state(installation.state.settings))
    return stack, await stack.enter_async_context(serve(state))


async def test_no_counter_lives_for_ever(sluice: Installation) -> None:
    me = await limited(sluice, rpm=100, tpd=10**6)
    await asyncio.gather(*(sluice.chat(headers=me) for _ in range(10)))

    redis = sluice.state.redis
    lifetimes = {key: await redis.ttl(key) async for key in redis.scan_iter("sluice:limits:*")}

    assert lifetimes
    assert all(seconds > 0 for seconds in lifetimes.values())


async def test_without_redis_nothing_is_let_through(tmp_path: Path, own_redis: RedisServer) -> None:
    settings = make_settings(tmp_path, own_redis)
    async with open_installation(settings) as installation:
        me = await limited(installation, rpm=1)
        own_redis.kill()
        await eventually(lambda: not installation.state.inbox.is_connected)

        awaited = await installation.chat(headers=me)
        asynchronous = await installation.chat(headers=me | {"Prefer": "respond-async"})

        assert (awaited.status, asynchronous.status) == (503, 503)
        assert awaited.headers["retry-after"] == "1"
        assert (await awaited.json())["error"]["code"] == "queue_unavailable"
        own_redis.start()


async def test_open_to_background_work_without_redis_counts_it_when_it_starts(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    settings = make_settings(tmp_path, own_redis, redis_lost="open", accept_backlog=3)
    async with open_installation(settings) as installation:
        me = await limited(installation, rpm=10)
        priced = await installation.add_model("priced", prices=(1, 1))
        await installation.grant(priced["router_id"])
        assert (await installation.chat(headers=me)).status == 200
        own_redis.kill()
        await eventually(lambda: not installation.state.inbox.is_connected)

        later = me | {"Prefer": "respond-async"}
        statuses = [(await installation.chat(headers=later)).status for _ in range(5)]
        awaited, paid = await installation.chat(headers=me), await installation.chat(model="priced", headers=later)

        assert (statuses, awaited.status, paid.status) == ([202, 202, 202, 503, 503], 503, 503)
        own_redis.start()
        await eventually(lambda: _all_are_done(installation), within_s=30)
        answer = await installation.chat(headers=me)
        assert answer.headers["x-ratelimit-remaining-requests"] == "6"


async def test_what_was_never_counted_is_not_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "own-redis"
    folder.mkdir()
    redis = TcpRedisServer(folder, free_port())  # it keeps what was counted
    redis.start()
    settings = make_settings(tmp_path, redis, redis_lost="open")
    later = {"Prefer": "respond-async"}
    try:
        async with open_installation(settings, workers=False) as idle:
            me = await limited(idle, tpm=10_000) | later
            assert (await idle.chat("x" * 400, headers=me)).status == 202
            redis.kill()
            await eventually(lambda: not idle.state.inbox.is_connected)
            job = (await idle.chat("x" * 400, headers=me)).headers["x-job-id"]
            redis.start()
            await eventually(lambda: idle.state.inbox.is_connected)

            await idle.post(f"/v1/jobs/{job}/cancel", headers=me)

            answer = await idle.chat("x" * 400, headers=me)
            assert answer.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 2 * 104)
    finally:
        redis.kill()


async def _all_are_done(installation: Installation) -> bool:
    return all(row.status == "completed" for row in await installation.rows(JobRow))


@pytest.mark.parametrize("scope", ["me", "admin"])
async def test_reading_is_not_limited(sluice: Installation, scope: str) -> None:
    me = await limited(sluice, rpm=1)
    job = (await sluice.chat(headers=me)).headers["x-job-id"]
    headers = me if scope == "me" else bearer(sluice.headers["Authorization"].split()[1])

    statuses = {(await sluice.get(f"/v1/jobs/{job}", headers=headers)).status for _ in range(5)}

    assert statuses == {200}
