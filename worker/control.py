"""Hear which running job to abort."""

from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis

_LISTEN_S: Final = 1.0


async def hear_aborts(redis: Redis, channel: str, abort: Callable[[str], None]) -> None:
    """Call `abort` with each job id that is published; returns only by a Redis error."""
    async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(channel)
        while True:
            message = await subscription.get_message(timeout=_LISTEN_S)
            if message is not None:
                abort(message["data"].decode())
