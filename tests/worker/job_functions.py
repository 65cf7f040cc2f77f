"""The job functions of the tests; each writes down its start and its end."""

import asyncio
import os
from typing import Any

from arq import Retry

from tests.worker.journal import Journal

_LOOK_S = 0.01


async def hold(ctx: dict[str, Any], seconds: float) -> str:
    """Take `seconds`, as a slow model would."""
    ctx["journal"].write("start", ctx)
    await asyncio.sleep(seconds)
    ctx["journal"].write("end", ctx)
    return "held"


async def wait_at(ctx: dict[str, Any], gate: str) -> str:
    """Run until the test opens the gate, or the one of this process."""
    journal: Journal = ctx["journal"]
    journal.write("start", ctx)
    try:
        while not (journal.is_open(gate) or journal.is_open(os.getpid())):
            await asyncio.sleep(_LOOK_S)
    except asyncio.CancelledError:
        journal.write("cancelled", ctx)
        raise
    journal.write("end", ctx)
    return "passed"


async def note(ctx: dict[str, Any], label: str) -> None:
    """Leave a mark and be done."""
    ctx["journal"].write("start", ctx, label)


async def fail_twice(ctx: dict[str, Any]) -> int:
    """Succeed on the third try."""
    ctx["journal"].write("start", ctx)
    if ctx["job_try"] < 3:
        raise Retry(defer=0.1)
    ctx["journal"].write("end", ctx)
    return int(ctx["job_try"])


async def tick(ctx: dict[str, Any]) -> None:
    """Run by cron."""
    ctx["journal"].write("tick", ctx)


FUNCTIONS: list[Any] = [hold, wait_at, note, fail_twice]
