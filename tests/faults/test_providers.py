"""A provider that does everything providers do wrong, under load."""

import random
from pathlib import Path
from typing import Any

from aiohttp import web

from shared.jobs.schemas import COMPLETED, FAILED
from tests.faults.invariants import check_ledger, statuses_of
from tests.faults.processes import Processes
from tests.faults.traffic import Traffic, random_calls
from tests.providers import (
    Behaviour,
    ScriptedProvider,
    chunk,
    cuts_at_once,
    cuts_in_the_middle,
    fails,
    hangs,
    says,
    sends,
    stream,
    streams,
)  # fmt: skip

FIRST = chunk({"role": "assistant", "content": "one"})
TEXT = "an answer of some words"


async def test_a_provider_that_fails_in_every_way_breaks_nothing_else(folder: Path, provider: ScriptedProvider) -> None:
    processes = Processes(folder, workers=2)
    dice = random.Random(8)
    wrong = [hangs(), cuts_at_once(), cuts(), streams(FIRST, done=False), malforms(), fails(500), fails(429)]
    provider.script = [dice.choice(wrong) if dice.random() < 0.5 else says(TEXT) for _ in range(400)]
    try:
        await processes.start()
        await processes.add_model("wicked", provider.url, timeout=1)
        traffic = Traffic(processes, "wicked")

        await traffic.run(random_calls(dice, 60), callers=20)

        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        assert statuses_of(ledger, traffic.accepted) == {COMPLETED, FAILED}
        assert set(traffic.streamed.values()) == {TEXT}
        reasons = {row.retry_reason for found in ledger.attempts.values() for row in found}
        assert reasons >= {None, "timeout", "connection", "malformed", "http_5xx", "http_429"}
    finally:
        await processes.close()


def cuts() -> Behaviour:
    """Break the connection in the middle of an answer."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("stream"):
            return await stream(request, [FIRST], cut=True)
        return await cuts_in_the_middle()(request, body)

    return behave


def malforms() -> Behaviour:
    """Answer with broken JSON, or with a broken chunk behind a good one."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("stream"):
            raw = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\ndata: {"choices"\n\n'
            return await sends(raw, "text/event-stream")(request, body)
        return await sends(b'{"choices": [')(request, body)

    return behave
