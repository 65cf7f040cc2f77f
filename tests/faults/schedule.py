"""Faults at times and of kinds that a seed decides."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

from shared.database import postgres_dsn
from tests.faults.processes import Processes
from tests.servers import RedisServer

_EVERY_S: Final = (0.5, 1.5)
_REDIS_AWAY_S: Final = 0.3


class Schedule:
    """Breaks an installation again and again.

    Args:
        processes: the installation.
        dice: decides what and when.
        lease_s: of the workers; a paused one sleeps longer than that.
        redis: the server, if it is not a child of the supervisor, which would start it again.

    """

    def __init__(self, processes: Processes, dice: random.Random, lease_s: float, redis: RedisServer | None) -> None:
        self.done: list[str] = []
        """Names of the faults so far."""
        self._processes = processes
        self._dice = dice
        self._lease_s = lease_s
        self._redis = redis

    async def run(self) -> None:
        """Break something now and then, each kind once before any comes again, until cancelled."""
        faults: list[Callable[[], Awaitable[None]]] = [
            self.kill_a_worker, self.kill_an_api, self.kill_redis, self.flush_redis, self.pause_a_worker,
            self.terminate_a_worker,
        ]  # fmt: skip
        if self._processes.database_url.startswith("postgresql"):
            faults.append(self.cut_connections)
        plan = random.Random(self._dice.random())  # on its own, since the other draws depend on what lives just then
        async with asyncio.TaskGroup() as group:
            while True:
                plan.shuffle(faults)
                for fault in faults:
                    await asyncio.sleep(plan.uniform(*_EVERY_S))
                    self.done.append(fault.__name__)
                    group.create_task(fault())  # type: ignore[arg-type]  # a coroutine function

    async def kill_a_worker(self) -> None:
        self._signal("-m worker", signal.SIGKILL)

    async def kill_an_api(self) -> None:
        self._signal("-m api", signal.SIGKILL)

    async def terminate_a_worker(self) -> None:
        self._signal("-m worker", signal.SIGTERM)

    async def pause_a_worker(self) -> None:
        """Stop a worker for longer than its lease; then it goes on as if nothing had happened."""
        if pid := self._signal("-m worker", signal.SIGSTOP):
            try:
                await asyncio.sleep(self._lease_s + 1)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def kill_redis(self) -> None:
        if self._redis is None:
            self._signal("redis-server", signal.SIGKILL)
        else:
            self._redis.kill()
            await asyncio.sleep(_REDIS_AWAY_S)
            if not self._redis.is_running:  # another fault of the same kind may have been faster
                self._redis.start()

    async def flush_redis(self) -> None:
        with suppress(OSError), self._processes.redis() as redis:
            redis.flushall()

    async def cut_connections(self) -> None:
        """End all connections to the database, as a restart of a proxy or a failover does."""
        await cut_connections(self._processes)

    def _signal(self, words: str, signum: signal.Signals) -> int | None:
        """Send a signal to one child of this kind; returns its pid, or None if there is none at the moment."""
        pids = self._processes.children(words)
        if not pids:
            return None
        pid = self._dice.choice(pids)
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
        return pid


async def cut_connections(processes: Processes) -> int:
    """End all connections to the installation's PostgreSQL database; returns their number."""
    connection = await asyncpg.connect(postgres_dsn(processes.database_url))
    try:
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    return len(ended)
