"""End background tasks."""

import asyncio
from typing import Any, Final

_PATIENCE_S: Final = 0.2


async def end_tasks(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel the tasks until they are done: in Python 3.11 the `wait_for` of a library may swallow a cancellation."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_PATIENCE_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # it has been logged, or ended the process
