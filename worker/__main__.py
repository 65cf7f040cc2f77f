"""One worker process: `python -m worker [token [shard]]`.  Two lanes in one event loop; SIGTERM drains, then exit 0.

The token is the identity of the leases; a supervisor chooses it, to release them at once if the process dies.  The
shard is whose jobs it runs; without one, that of the settings.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from arq import cron
from arq.cron import CronJob
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from shared.admission.gate import Gate
from shared.database import Database
from shared.directory import Directory
from shared.files.store import UPLOADS, open_file_store
from shared.group_commit import open_writer
from shared.installation import require_keys, secret_box
from shared.log import configure_logging
from shared.metrics import Metrics
from shared.parsing.pool import open_parsers
from shared.process import tune_collector
from shared.queue.connections import open_pool
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import INFERENCE, PLATFORM, open_lane
from shared.queue.pace import Pace
from shared.replies.writer import ReplyWriter
from shared.sealed import check_secrets
from shared.settings import Settings, SettingsError, load_settings
from shared.shards import check_shards, mark_shard
from shared.tracing import open_tracer
from shared.webhooks.queue import MOST_IN_FLIGHT
from shared.webhooks.sending import open_webhook_session
from worker.batches.advance import advance_batches
from worker.context import Runtime
from worker.engine import LeasedWorker
from worker.job_worker import JobWorker
from worker.knowledge_sweep import tend_documents
from worker.leases import new_token
from worker.providers import build_adapters
from worker.reconciler import Reconciler, reconcile
from worker.retention import retain
from worker.routing.choice import Routing
from worker.routing.health import Health
from worker.routing.slots import Slots
from worker.runner import run_job
from worker.webhooks.deliver import deliver_webhook

log = structlog.get_logger()
_PLATFORM_SLOTS = 128
_ALIVE_S = 2.0


@asynccontextmanager
async def open_runtime(settings: Settings, redis: Any, name: str, shard: int = 0) -> AsyncIterator[Runtime]:
    """Yield what the jobs of this process use, and close it afterwards."""
    async with AsyncExitStack() as stack:
        url = settings.effective_database_url()
        database, writer = Database(url), open_writer(url)
        stack.push_async_callback(database.close)
        stack.push_async_callback(writer.close)
        box = secret_box(settings)
        directory = Directory(database, box, share=(shard, len(settings.redis_urls())))
        await directory.start()
        stack.push_async_callback(directory.close)
        connector = TCPConnector(limit=0, keepalive_timeout=60)
        http = await stack.enter_async_context(ClientSession(connector=connector, cookie_jar=DummyCookieJar()))
        tracer = await stack.enter_async_context(open_tracer(settings, "worker"))
        webhooks = await stack.enter_async_context(open_webhook_session(settings))
        first = open_pool(settings.redis_urls()[0])
        stack.push_async_callback(first.disconnect)
        deliveries = JobQueue(open_lane(first, PLATFORM))
        stack.push_async_callback(deliveries.close)
        replies = ReplyWriter(redis)
        stack.push_async_callback(replies.close)
        routing = Routing(directory, Health(redis), Slots(redis, settings.lease_s), JobQueue(redis))
        pace, metrics = Pace(redis), Metrics(redis, "worker")
        writer.on_commit = metrics.note_commit
        for part in (routing, pace, metrics):
            part.start()
            stack.push_async_callback(part.close)
        parsers = open_parsers(settings)
        stack.push_async_callback(parsers.close)
        yield Runtime(
            name=name, settings=settings, database=database, files=open_file_store(settings),
            uploads=open_file_store(settings, UPLOADS), writer=writer, replies=replies, redis=redis,
            shard=shard, deliveries=deliveries, webhooks=webhooks, box=box,
            gate=Gate(redis, settings.rate_limiting_strategy), directory=directory, routing=routing,
            adapters=build_adapters(http, tracer, tells_providers=settings.trace_providers), pace=pace,
            metrics=metrics, parsers=parsers, tracer=tracer,
        )  # fmt: skip


def build_workers(settings: Settings, runtime: Runtime, redis: Any, token: str) -> list[LeasedWorker]:
    """Return the workers of both lanes; each closes its own connections, hence a pool each."""
    options: dict[str, Any] = {
        "token": token, "lease_s": settings.lease_s, "job_completion_wait": settings.drain_s, "handle_signals": False,
        "keep_result": 0,
    }  # fmt: skip
    url = settings.redis_urls()[runtime.shard]
    inference, platform = (open_lane(open_pool(url), lane) for lane in (INFERENCE, PLATFORM))
    reconciler = Reconciler(runtime=runtime, redis=redis, queue=JobQueue(redis), platform=JobQueue(platform))
    return [
        JobWorker(run_job, redis_pool=inference, max_jobs=settings.worker_slots, ctx={"runtime": runtime}, **options),
        JobWorker(
            run_job,
            others=[deliver_webhook],
            redis_pool=platform,
            max_jobs=_PLATFORM_SLOTS,
            cap=MOST_IN_FLIGHT,
            ctx={"reconciler": reconciler, "runtime": runtime},
            cron_jobs=_cron_jobs(runtime.shard),
            **options,
        ),
    ]


def _cron_jobs(shard: int) -> list[CronJob]:
    """Return what every shard does for its jobs, and what the first one does for all."""
    of_all = [
        cron(tend_documents, second={5, 25, 45}, timeout=600, max_tries=1),
        cron(retain, minute=set(range(0, 60, 10)), second={30}, timeout=600, max_tries=1),
    ]
    return [
        cron(reconcile, second=set(range(60)), timeout=120, max_tries=1),
        cron(advance_batches, second=set(range(60)), timeout=1800, max_tries=1),
        *([] if shard else of_all),
    ]


async def show_life(path: str | None) -> None:
    """Touch the file for as long as the event loop turns."""
    while path is not None:
        await asyncio.to_thread(Path(path).touch)
        await asyncio.sleep(_ALIVE_S)


async def serve(settings: Settings, token: str, shard: int) -> None:
    """Run until SIGTERM or SIGINT."""
    pool = open_pool(settings.redis_urls()[shard])
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    redis = open_lane(pool, INFERENCE)
    async with open_runtime(settings, redis, token, shard) as runtime:
        await check_shards(runtime.database, settings)
        await check_secrets(runtime.database, runtime.box)
        await mark_shard(redis, shard)
        workers = build_workers(settings, runtime, redis, token)
        mains = [loop.create_task(worker.main()) for worker in workers]
        for worker, main in zip(workers, mains, strict=True):
            worker.main_task = main
        stop = loop.create_task(stopping.wait())
        life = loop.create_task(show_life(settings.alive_file))
        tune_collector()
        log.info("worker_ready", token=token, shard=shard)
        await asyncio.wait({stop, *mains}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        await asyncio.gather(*(worker.drain() for worker in workers))
        for main in mains:
            with suppress(asyncio.CancelledError):
                await main
        life.cancel()
    await pool.disconnect()


def main() -> int:
    """Start the process; returns its exit code."""
    try:
        os.umask(0o077)
        settings = load_settings()
        require_keys(settings, "encryption_key")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    configure_logging(settings, "worker")
    token = sys.argv[1] if len(sys.argv) > 1 else new_token()
    shard = int(sys.argv[2]) if len(sys.argv) > 2 else settings.shard
    if shard is None:
        shard = 0
        if len(settings.redis_urls()) > 1:
            sys.stderr.write("SLUICE_SHARD: there are several shards; which one does this worker serve?\n")
            return 1
    try:
        uvloop.run(serve(settings, token, shard))
    except (RedisError, SQLAlchemyError, SettingsError, OSError) as error:
        log.error("worker_failed", error=repr(error))  # noqa: TRY400  # an outage needs no traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
