"""Scripts that many callers run: calls of the same moment share one round trip.

There is no timer: while one pipeline is on its way, the next one fills.
"""

import asyncio
from collections.abc import Mapping
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

_MOST: Final = 500


class Scripts:
    """Scripts by name, bound to one Redis; they take arguments and no keys."""

    def __init__(self, redis: Redis, sources: Mapping[str, str]) -> None:
        self._redis = redis
        self._sources = dict(sources)
        self._digests = {name: sha1(text.encode()).hexdigest() for name, text in sources.items()}  # noqa: S324  # Redis'
        self._waiting: list[tuple[str, list[Any], asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def run(self, name: str, arguments: list[Any]) -> Any:
        """Run a script and return its answer; raises Redis errors."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((name, arguments, answer))
        if self._writer is None:
            self._writer = loop.create_task(self._write_all())
        return await answer

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._write(batch)
        finally:
            self._writer = None

    async def _write(self, batch: list[tuple[str, list[Any], asyncio.Future[Any]]]) -> None:
        try:
            answers = await self._send(batch)
            if again := [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
                for text in self._sources.values():
                    await self._redis.script_load(text)
                repeated = await self._send([batch[index] for index in again])
                for index, answer in zip(again, repeated, strict=True):
                    answers[index] = answer
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must learn of it
            answers = [error] * len(batch)
        for (*_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _send(self, batch: list[tuple[str, list[Any], asyncio.Future[Any]]]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name, arguments, _ in batch:
                pipeline.execute_command("EVALSHA", self._digests[name], 0, *arguments)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers
