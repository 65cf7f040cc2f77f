"""Attempts that run at providers with a limit, exact over all workers: leases in Redis.

A killed worker's slots are free when their lease ends.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.ids import new_ulid
from shared.redis_scripts import Scripts
from shared.tasks import end_tasks

log = structlog.get_logger()
_ACQUIRE: Final = Path(__file__).parent / "scripts" / "acquire.lua"
_TOO_LONG: Final = 3


class Slots:
    """The slots of this process."""

    def __init__(self, redis: Redis, lease_s: float) -> None:
        self._redis = redis
        self._lease_ms = int(lease_s * 1000)
        self._scripts = Scripts(redis, {"acquire": _ACQUIRE.read_text()})
        self._held: dict[str, int] = {}
        self._leaving: list[tuple[int, str]] = []
        self._writer: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew what is held."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Stop renewing; wait until nothing is under way."""
        if self._keeper is not None:
            await end_tasks(self._keeper)
        if self._writer is not None:
            await asyncio.wait({self._writer})

    async def acquire(self, candidates: Sequence[tuple[int, int | None]], *, least: bool) -> tuple[int, str] | None:
        """Take a slot at one of these (provider, limit), which come in the order of preference.

        Args:
            candidates: limit None is any number.
            least: take the one with the fewest attempts, relative to its limit if it has one; else the first.

        Returns:
            Provider and token of the slot; None if none has room.

        """
        token = new_ulid()
        arguments: list[str | int] = [token, self._lease_ms, "least" if least else "first"]
        for provider_id, limit in candidates:
            arguments += [provider_id, "" if limit is None else limit]
        taken = cast(bytes, await self._scripts.run("acquire", arguments))
        if not taken:
            return None
        self._held[token] = int(taken)
        return int(taken), token

    def release(self, provider_id: int, token: str) -> None:
        """Give a slot back, soon; what does not arrive ends with its lease."""
        self._held.pop(token, None)
        self._leaving.append((provider_id, token))
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._leaving:
                batch, self._leaving = self._leaving, []
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for provider_id, token in batch:
                        pipeline.zrem(_key(provider_id), token)
                    await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("slots_end_later", error=repr(error))
        finally:
            self._writer = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 1000 / _TOO_LONG)
            if not self._held:
                continue
            try:
                await self._renew()
            except (RedisError, OSError) as error:
                log.warning("slots_not_renewed", error=repr(error))

    async def _renew(self) -> None:
        seconds, microseconds = await self._redis.time()
        deadline = seconds * 1000 + microseconds // 1000 + self._lease_ms
        async with self._redis.pipeline(transaction=False) as pipeline:
            for token, provider_id in self._held.items():
                pipeline.zadd(_key(provider_id), {token: deadline})
                pipeline.pexpire(_key(provider_id), self._lease_ms)
            await pipeline.execute()


def _key(provider_id: int) -> str:
    return f"sluice:provider:{provider_id}:running"
