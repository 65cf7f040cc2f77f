"""One api process: `python -m api`; several may share the port.

SIGTERM: for `SLUICE_LEAVE_S` it tells proxies that it leaves; then it accepts no more connections, answers open
requests, and exits 0.  A second SIGTERM shortens the first part.  Should a background task fail, it logs that, leaves
in the same way but at once, and exits 1, so that whoever started it starts it again.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog
import uvloop
from aiohttp import ClientSession, DummyCookieJar, web
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from api.batch_intake import BatchIntake
from api.cluster_watch import ClusterWatch
from api.endpoints import ENDPOINTS
from api.keys import KeyRing
from api.last_used import LastUsed
from api.passwords import Passwords
from api.scans import Scans
from api.serving import open_runner
from api.shards import open_shard
from api.state import State
from api.versions import Versions
from shared.database import Database
from shared.directory import Directory
from shared.files.store import UPLOADS, open_file_store
from shared.group_commit import open_impatient_writer
from shared.installation import admin_key, require_keys, secret_box
from shared.log import configure_logging
from shared.metrics import Metrics
from shared.parsing.pool import open_parsers
from shared.process import tune_collector
from shared.queue.connections import open_pool
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import INFERENCE, PLATFORM, open_lane
from shared.retrieval.index import Index
from shared.sealed import check_secrets
from shared.settings import Settings, SettingsError, load_settings
from shared.shards import check_shards, mark_shard
from shared.tasks import BACKGROUND, end_tasks
from shared.tracing import open_tracer
from shared.webhooks.sending import open_webhook_session

log = structlog.get_logger()


class _Closable(Protocol):
    async def close(self) -> None: ...


P = TypeVar("P", bound=_Closable)


@asynccontextmanager
async def open_state(settings: Settings) -> AsyncIterator[State]:
    """Yield what the endpoints of this process use, and close it afterwards."""
    async with AsyncExitStack() as stack:

        def closing(part: P) -> P:
            stack.push_async_callback(part.close)
            return part

        url = settings.effective_database_url()
        database = closing(Database(url))
        logs = closing(Database(settings.log_database_url)) if settings.log_database_url else database
        writer = closing(open_impatient_writer(url, patience_s=settings.accept_patience_s))
        pools = [open_pool(one) for one in settings.redis_urls()]
        for pool in pools:
            stack.push_async_callback(pool.disconnect)
        first = open_lane(pools[0], INFERENCE)
        directory, metrics = closing(Directory(database)), closing(Metrics(first, "api"))
        last_used, versions = closing(LastUsed(database)), closing(Versions(database))
        await directory.start()
        await check_shards(database, settings)
        await check_secrets(database, secret_box(settings))
        await asyncio.gather(*(mark_shard(open_lane(pool, INFERENCE), shard) for shard, pool in enumerate(pools)))
        writer.on_commit = metrics.note_commit
        for part in (last_used, metrics):
            part.start()
        shards: list[State] = []
        parts = {
            "settings": settings, "database": database, "logs": logs, "writer": writer, "shards": shards,
            "directory": directory, "versions": versions,
            "files": open_file_store(settings), "uploads": open_file_store(settings, UPLOADS),
            "deliveries": closing(JobQueue(open_lane(pools[0], PLATFORM))), "cluster": ClusterWatch(),
            "has_new_batch": asyncio.Event(), "has_held_job": asyncio.Event(), "leaving": asyncio.Event(),
            "keys": KeyRing(database, directory, admin_key(settings), last_used), "last_used": last_used,
            "passwords": Passwords(first), "box": secret_box(settings), "metrics": metrics,
            "tracer": await stack.enter_async_context(open_tracer(settings, "api")),
            "index": Index(database, settings.vectors_path, settings.index_language),
            "parsers": closing(open_parsers(settings)),
            "http": await stack.enter_async_context(ClientSession(cookie_jar=DummyCookieJar())),
            "webhooks": await stack.enter_async_context(open_webhook_session(settings)),
        }  # fmt: skip
        for pool in pools:
            shards.append(await stack.enter_async_context(open_shard(pool, parts)))  # noqa: PERF401  # it numbers them
        await stack.enter_async_context(follow_batches(shards[0]))
        closing(Scans(shards[0]))
        yield shards[0]


@asynccontextmanager
async def follow_batches(state: State) -> AsyncIterator[None]:
    """Work on batches as long as the block runs."""
    intake = BatchIntake(state, {one.path: one for one in ENDPOINTS if one.prepare and one.body})
    try:
        yield
    finally:
        await intake.close()


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, or until a background task has failed; returns the exit code."""
    loop, hurry, broken = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.set_exception_handler(partial(_note_failure, broken))
    async with open_state(settings) as state:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, _leave, state.leaving, hurry)
        runner = open_runner(state, shutdown_timeout_s=settings.drain_s)
        await runner.setup()
        site = web.TCPSite(runner, settings.host, settings.port, reuse_port=True, backlog=1024)
        await site.start()
        tune_collector()
        log.info("api_ready", host=settings.host, port=settings.port)
        ends = [loop.create_task(event.wait()) for event in (state.leaving, broken)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(*ends)
        if broken.is_set():  # who asks it now may wait in vain
            hurry.set()
        state.leaving.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.leave_s):
                await hurry.wait()
        await runner.cleanup()
    return int(broken.is_set())


def _note_failure(broken: asyncio.Event, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody waits for; without one of its background tasks the process is not whole."""
    loop.default_exception_handler(context)
    if BACKGROUND in context:
        broken.set()


def _leave(leaving: asyncio.Event, hurry: asyncio.Event) -> None:
    (hurry if leaving.is_set() else leaving).set()


def main() -> int:
    """Start the process; returns its exit code."""
    try:
        os.umask(0o077)
        settings = load_settings()
        require_keys(settings, "admin_key", "encryption_key")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    configure_logging(settings, "api")
    try:
        return uvloop.run(serve(settings))
    except (RedisError, SQLAlchemyError, SettingsError, OSError) as error:
        log.error("api_failed", error=repr(error))  # noqa: TRY400  # an outage needs no traceback
        return 1


if __name__ == "__main__":
    sys.exit(main())
