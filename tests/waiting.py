"""Wait for what happens elsewhere."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any


async def eventually(is_true: Callable[[], Any], *, within_s: float = 15.0) -> Any:
    """Wait until `is_true()` or, for a coroutine function, its result is true; returns that."""
    deadline = time.monotonic() + within_s
    while True:
        value = is_true()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_s} s")
        await asyncio.sleep(0.01)
