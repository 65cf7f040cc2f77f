"""The admission scripts on a real Redis, with minutes that are short enough to wait for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import get_args

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.admission.gate import Decision, Demand, Gate, Limits, Missing, Released, Strategy, Truth
from shared.admission.records import Admission
from shared.clock import now_ms
from shared.ids import oldest_ulid
from tests.servers import RedisServer

MINUTE_MS = 1000
KEY = "sluice:limits:1:1"
ACCOUNT = "money:u1"
each_strategy = pytest.mark.parametrize("strategy", get_args(Strategy))
NEVER_MORE = pytest.mark.parametrize("strategy", ["fixed_window", "moving_window"])


@pytest_asyncio.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    redis = Redis.from_url(redis_server.url)
    yield redis
    await redis.aclose()


def limits(tokens: int = 1, *, rpm: int | None = None, rpd: int | None = None, tpm: int | None = None) -> Limits:
    return Limits(windows=KEY, tokens=tokens, values=(rpm, rpd, tpm, None))


async def now_of(redis: Redis) -> int:
    """Return the time of the scripts, Unix ms."""
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def ask(gate: Gate, asked: Limits, job_id: str = "job") -> Decision:
    decision = await gate.admit(job_id, asked, [])
    assert isinstance(decision, Decision)
    return decision


async def admitted(gate: Gate, asked: Limits) -> Admission:
    """Admit a request and return what its job keeps."""
    decision = await ask(gate, asked)
    assert decision.verdict == "ok"
    return Admission(admitted_ms=decision.at_ms, windows=KEY, tokens=asked.tokens)


async def used(gate: Gate) -> tuple[int, int]:
    """Return requests and tokens of this minute; the request that asks is refused, so it counts nothing."""
    decision = await ask(gate, limits(10**9, tpm=1))
    assert decision.verdict == "tpm"
    return decision.uses[0].used, decision.uses[2].used


async def until(redis: Redis, is_time: Callable[[int], bool]) -> int:
    """Wait for a time of the scripts' clock, and return it."""
    while not is_time(now := await now_of(redis)):
        await asyncio.sleep(0.002)
    return now


@each_strategy
async def test_what_is_refused_counts_nothing(redis: Redis, strategy: Strategy) -> None:
    gate = Gate(redis, strategy)
    asked = limits(10, rpm=5, tpm=40)

    verdicts = [(await ask(gate, asked)).verdict for _ in range(20)]

    assert verdicts == ["ok"] * 4 + ["tpm"] * 16
    assert await used(gate) == (4, 40)


@each_strategy
async def test_the_first_limit_in_the_order_of_the_contract_is_named(redis: Redis, strategy: Strategy) -> None:
    gate = Gate(redis, strategy)
    assert (await ask(gate, limits(10, rpm=1, rpd=1, tpm=10))).verdict == "ok"

    verdicts = [
        (await ask(gate, asked)).verdict
        for asked in (limits(10, rpm=1, rpd=1, tpm=10), limits(10, rpd=1, tpm=10), limits(10, tpm=10))
    ]

    assert verdicts == ["rpm", "rpd", "tpm"]


@each_strategy
async def test_many_at_once_get_exactly_the_limit(redis: Redis, strategy: Strategy) -> None:
    gate = Gate(redis, strategy)

    decisions = await asyncio.gather(*(ask(gate, limits(3, rpm=37), f"{n}") for n in range(200)))

    assert [one.verdict for one in decisions].count("ok") == 37
    assert sorted(one.uses[0].used for one in decisions)[:37] == list(range(1, 38))


@NEVER_MORE
async def test_no_window_lets_more_in_than_the_limit(redis: Redis, strategy: Strategy) -> None:
    gate, times = Gate(redis, strategy, minute_ms=MINUTE_MS), []
    end = await now_of(redis) + 3 * MINUTE_MS
    while (now := await now_of(redis)) < end:
        if (await ask(gate, limits(rpm=5))).verdict == "ok":
            times.append(now)
        await asyncio.sleep(0.002)

    starts = times if strategy == "moving_window" else times[::5]  # a fixed window begins with its first request
    for start in starts:
        assert len([time for time in times if start <= time < start + MINUTE_MS - 10]) <= 5
    assert len(times) > 5


async def test_a_sliding_window_counts_the_last_one_by_its_share(redis: Redis) -> None:
    gate = Gate(redis, "sliding_window", minute_ms=MINUTE_MS)
    begun = await until(redis, lambda now: now % MINUTE_MS < MINUTE_MS // 4)
    for _ in range(10):
        assert (await ask(gate, limits(rpm=10))).verdict == "ok"
    await until(redis, lambda now: now // MINUTE_MS > begun // MINUTE_MS)

    before = await now_of(redis)
    requests, _ = await used(gate)
    after = await now_of(redis)

    most, least = (10 - 10 * (now % MINUTE_MS) / MINUTE_MS for now in (before, after))
    assert least <= requests <= most + 1


@each_strategy
async def test_what_is_given_back_can_be_used_again(redis: Redis, strategy: Strategy) -> None:
    gate = Gate(redis, strategy)
    admission = await admitted(gate, limits(10, rpm=1, tpm=10))
    assert (await ask(gate, limits(10, rpm=1))).verdict == "rpm"

    await gate.settle("job", admission, [], requests=-1, tokens=-10)

    assert await used(gate) == (0, 0)
    assert (await ask(gate, limits(10, rpm=1, tpm=10))).verdict == "ok"


@each_strategy
async def test_the_providers_number_replaces_the_estimate(redis: Redis, strategy: Strategy) -> None:
    gate = Gate(redis, strategy)
    first, second = [await admitted(gate, limits(100)) for _ in range(2)]

    await gate.settle("job", first, [], tokens=-70)
    await gate.settle("job", second, [], tokens=25)

    assert await used(gate) == (2, 155)


@each_strategy
async def test_what_a_window_has_forgotten_is_not_taken_from_the_next(redis: Redis, strategy: Strategy) -> None:
    gate = Gate(redis, strategy, minute_ms=MINUTE_MS)
    old = await admitted(gate, limits(1000))
    await until(redis, lambda now: now > old.admitted_ms + 2 * MINUTE_MS + 20)
    assert (await ask(gate, limits(300))).verdict == "ok"

    await gate.settle("job", old, [], requests=-1, tokens=-1000)

    assert await used(gate) == (1, 300)


async def test_a_moving_window_takes_back_from_the_part_that_counted(redis: Redis) -> None:
    gate = Gate(redis, "moving_window", minute_ms=MINUTE_MS)
    first = await admitted(gate, limits(1000))
    await until(redis, lambda now: now > first.admitted_ms + MINUTE_MS // 2)
    assert (await ask(gate, limits(500))).verdict == "ok"

    await gate.settle("job", first, [], requests=-1, tokens=-900)
    assert await used(gate) == (1, 600)
    await until(redis, lambda now: now > first.admitted_ms + MINUTE_MS + 3 * MINUTE_MS // 60)

    assert await used(gate) == (1, 500)


async def test_a_sliding_window_takes_back_from_the_window_that_counted(redis: Redis) -> None:
    gate = Gate(redis, "sliding_window", minute_ms=MINUTE_MS)
    await until(redis, lambda now: MINUTE_MS // 2 <= now % MINUTE_MS < 3 * MINUTE_MS // 4)
    first = await admitted(gate, limits(1000))
    await until(redis, lambda now: now // MINUTE_MS > first.admitted_ms // MINUTE_MS)
    assert (await ask(gate, limits(500))).verdict == "ok"

    await gate.settle("job", first, [], requests=-1, tokens=-1000)

    assert await used(gate) == (1, 500)


@pytest.mark.parametrize("left", [10**15, 10**15 - 1, 2**53 - 1])
async def test_the_largest_budgets_are_exact_to_the_micro_unit(redis: Redis, left: int) -> None:
    gate = Gate(redis, "fixed_window")
    await load(gate, Truth(value=left, version=1, holds={"held": 1}))

    decision = await gate.admit("job", NO_LIMITS, [money(7)])

    assert isinstance(decision, Decision)
    assert (decision.left, decision.held_micros) == ((left - 8,), 7)
    await gate.settle("job", Admission(admitted_ms=0), [Released(ACCOUNT, left - 3, 2)])
    rest = await gate.admit("rest", NO_LIMITS, [money(10**18)])
    assert isinstance(rest, Decision)
    assert (rest.left, rest.held_micros) == ((0,), left - 4)


NO_LIMITS = Limits(windows="", tokens=0, values=(None, None, None, None))


def money(amount: int) -> Demand:
    return Demand(account=ACCOUNT, kind="money", amount=amount)


async def missing(gate: Gate) -> Missing:
    """Return the account as one that must be loaded."""
    answer = await gate.admit("asks", NO_LIMITS, [money(1)])
    assert isinstance(answer, list)
    return answer[0]


async def load(gate: Gate, truth: Truth) -> None:
    assert await gate.load(await missing(gate), truth, "1")


async def holds(redis: Redis) -> dict[bytes, bytes]:
    found = await redis.hgetall(f"sluice:holds:{ACCOUNT}")
    return {job: amount for job, amount in found.items() if job not in (b"=", b"*", b"#")}


async def test_two_who_read_an_account_at_once_do_not_undo_each_other(redis: Redis) -> None:
    gate = Gate(redis, "fixed_window")
    first, second = await missing(gate), await missing(gate)
    read = Truth(value=100, version=1, holds={"0over": 40})

    assert await gate.load(first, read, "1")
    await gate.settle("0over", Admission(admitted_ms=0), [Released(ACCOUNT, 75, 2)])
    await gate.load(second, read, "1")

    assert await holds(redis) == {}
    decision = await gate.admit("job", NO_LIMITS, [money(1000)])
    assert isinstance(decision, Decision)
    assert decision.held_micros == 75


async def test_what_was_read_before_an_administrator_changed_it_is_read_again(redis: Redis) -> None:
    gate = Gate(redis, "fixed_window")
    asked = await missing(gate)

    await gate.forget([ACCOUNT])

    assert not await gate.load(asked, Truth(value=100, version=1, holds={}), "1")
    await load(gate, Truth(value=5, version=2, holds={}))


async def test_a_late_settlement_does_not_bring_back_an_older_budget(redis: Redis) -> None:
    gate = Gate(redis, "fixed_window")
    await load(gate, Truth(value=5, version=9, holds={"0old": 1}))

    await gate.settle("0old", Admission(admitted_ms=0), [Released(ACCOUNT, 1000, 8)])

    decision = await gate.admit("job", NO_LIMITS, [money(1000)])
    assert isinstance(decision, Decision)
    assert decision.held_micros == 5


async def test_a_job_whose_charge_is_not_known_has_its_account_read_again(redis: Redis) -> None:
    gate = Gate(redis, "fixed_window")
    await load(gate, Truth(value=100, version=1, holds={"0paid": 100}))

    await gate.settle("0paid", Admission(admitted_ms=0), [Released(ACCOUNT, is_known=False)])

    await load(gate, Truth(value=0, version=2, holds={}))
    decision = await gate.admit("job", NO_LIMITS, [money(1)])
    assert isinstance(decision, Decision)
    assert decision.verdict == "budget"


async def test_what_ended_while_an_account_was_read_holds_nothing(redis: Redis) -> None:
    gate = Gate(redis, "fixed_window")
    asked = await missing(gate)
    read = Truth(value=100, version=1, holds={"0over": 40, "0open": 10})
    await gate.settle("0over", Admission(admitted_ms=0), [Released(ACCOUNT, 75, 2)])

    assert await gate.load(asked, read, "1")

    assert await holds(redis) == {b"0open": b"10"}
    decision = await gate.admit("job", NO_LIMITS, [money(1000)])
    assert isinstance(decision, Decision)
    assert decision.held_micros == 65


async def test_a_job_that_is_admitted_again_holds_and_counts_once(redis: Redis) -> None:
    gate = Gate(redis, "fixed_window")
    await load(gate, Truth(value=100, version=1, holds={}))

    first, again = [await gate.admit("job", limits(7, rpm=1, tpm=10), [money(amount)]) for amount in (40, 60)]
    other = await gate.admit("other", NO_LIMITS, [money(1000)])

    assert isinstance(first, Decision)
    assert isinstance(again, Decision)
    assert isinstance(other, Decision)
    assert (first.verdict, again.verdict, again.held_micros, other.held_micros) == ("ok", "ok", 60, 40)
    assert await used(gate) == (1, 7)


async def test_an_item_of_an_old_batch_holds_while_it_is_on_its_way(redis: Redis) -> None:
    gate = Gate(redis, "fixed_window")
    old, older = oldest_ulid(now_ms() - 3_600_000), oldest_ulid(now_ms() - 7_200_000)
    await load(gate, Truth(value=100, version=1, holds={older: 10}))
    decision = await gate.admit(old, NO_LIMITS, [money(40)])
    assert isinstance(decision, Decision)

    await gate.forget([ACCOUNT])
    asked = await missing(gate)
    assert await gate.load(asked, Truth(value=90, version=2, holds={}), oldest_ulid(now_ms() - 60_000))

    assert await holds(redis) == {old.encode(): b"40"}, "the older one is over, this one is not stored yet"
