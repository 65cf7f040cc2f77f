"""Workers die and Redis forgets while events are on their way: each arrives at least once, with one id."""

import asyncio
from collections import Counter

from aiohttp import ClientSession
from sqlmodel import col, update

from shared.clock import now_ms
from shared.jobs.tables import JobEventRow
from shared.webhooks.tables import WebhookAttemptRow, WebhookDeliveryRow
from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes, rows, submit, until_all_over
from tests.receivers import EVENTS, Received, Receiver, hang, says
from tests.waiting import eventually


async def add_endpoint(processes: Processes, receiver: Receiver, *events: str) -> str:
    body = {"name": "n", "url": receiver.url, "event_types": list(events) or EVENTS}
    async with (
        ClientSession(processes.url, headers=processes.headers) as http,
        http.post("/v1/webhook_endpoints", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["id"])


async def until_told(processes: Processes, receiver: Receiver, *, within_s: float = 60) -> dict[str, list[Received]]:
    """Wait until every delivery is delivered; returns what came in by event, which is one per job that is over."""
    await until_all_over(processes)

    async def are_delivered() -> bool:
        return {row.status for row in await rows(processes, WebhookDeliveryRow)} == {"delivered"}

    await eventually(are_delivered, within_s=within_s)
    found: dict[str, list[Received]] = {}
    for one in receiver.received:
        found.setdefault(one.id, []).append(one)
    assert found.keys() == {event.id for event in await rows(processes, JobEventRow)}
    assert all(len({one.raw for one in tries}) == 1 for tries in found.values())
    return found


async def let_leases_end(processes: Processes) -> None:
    """Make every delivery due that waits or is under way, as if time had passed."""
    async with processes.database() as database, database.transaction() as session:
        open_ones = col(WebhookDeliveryRow.due_ms).is_not(None)
        await session.exec(update(WebhookDeliveryRow).where(open_ones).values(due_ms=now_ms()))


async def test_a_worker_that_dies_after_a_try_makes_it_again_with_the_same_id(
    telling: Processes, receiver: Receiver
) -> None:
    receiver.script = [says(204), says(500)]
    await add_endpoint(telling, receiver)
    telling.arm("before_webhook_recorded")

    async with ClientSession() as http:
        accepted = await submit(http, telling, 1)
        await eventually(lambda: not telling.is_armed("before_webhook_recorded"))
        assert len(receiver.received) == 1
        await let_leases_end(telling)
        found = await until_told(telling, receiver)

    assert [len(tries) for tries in found.values()] == [3]
    second, third = sorted(await rows(telling, WebhookAttemptRow), key=lambda attempt: attempt.number)
    assert (second.number, third.number) == (2, 3)
    assert 4000 < third.started_ms - second.started_ms < 60_000, "the schedule begins with the first try that ended"
    await check_ledger(telling, accepted)


async def test_killed_workers_lose_no_event(telling: Processes, receiver: Receiver) -> None:
    await add_endpoint(telling, receiver)

    async with ClientSession() as http:
        accepted = await submit(http, telling, 40, delay_ms=200)
        for _ in range(3):
            await asyncio.sleep(0.3)
            telling.kill("-m worker")
        await until_all_over(telling)
        await let_leases_end(telling)
        found = await until_told(telling, receiver)

    assert len(found) >= len(accepted) > 0
    await check_ledger(telling, accepted)


async def test_a_flush_loses_no_event(telling: Processes, receiver: Receiver) -> None:
    receiver.script = [says(500)] * 4 + [hang] * 2
    await add_endpoint(telling, receiver)

    async with ClientSession() as http:
        accepted = await submit(http, telling, 30, delay_ms=300)
        await eventually(lambda: len(receiver.received) >= 6)
        with telling.redis() as redis:
            redis.flushall()
        await until_all_over(telling)
        found = await until_told(telling, receiver)

    assert len(found) >= len(accepted) > 0
    tries = Counter(row.delivery_id for row in await rows(telling, WebhookAttemptRow))
    assert sum(tries.values()) == len(receiver.received)
    await check_ledger(telling, accepted)
