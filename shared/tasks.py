"""Start and end background tasks."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

BACKGROUND: Final = "background"
"""What the loop's exception handler is told of a background task has this member: the task."""
_PATIENCE_S: Final = 0.2


def start_background(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Start what the process needs as long as it lives; if it fails, the loop's exception handler is told at once."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_tell_failure)
    return task


def _tell_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": "background_task_failed", "exception": error, BACKGROUND: task}
        task.get_loop().call_exception_handler(context)


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
