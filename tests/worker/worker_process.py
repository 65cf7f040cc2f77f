"""One worker in a process of its own, drained by SIGTERM: `python -m tests.worker.worker_process '{"url": .., ..}'`."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

import uvloop
from msgspec import Struct, json

from shared.queue.connections import open_pool
from shared.queue.lanes import PLATFORM, open_lane
from tests.worker.job_functions import FUNCTIONS
from tests.worker.journal import Journal
from worker.engine import LeasedWorker


class Options(Struct, kw_only=True):
    """What a test decides about its worker."""

    url: str
    journal: str
    token: str | None = None
    max_jobs: int = 10
    lease_s: float = 1.0
    drain_s: int = 10
    keep_result: int = 0


async def serve(options: Options) -> None:
    """Run until SIGTERM."""
    journal, stopping = Journal(Path(options.journal)), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    worker = LeasedWorker(
        FUNCTIONS,
        redis_pool=open_lane(open_pool(options.url), PLATFORM),
        token=options.token,
        lease_s=options.lease_s,
        max_jobs=options.max_jobs,
        job_completion_wait=options.drain_s,
        keep_result=options.keep_result,
        handle_signals=False,
        ctx={"journal": journal},
    )
    worker.main_task = loop.create_task(worker.main())
    journal.write("ready", {})  # Python takes a while to start
    stop = loop.create_task(stopping.wait())
    await asyncio.wait({stop, worker.main_task}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    journal.write("leaving", {})
    await worker.drain()
    with suppress(asyncio.CancelledError):
        await worker.main_task


if __name__ == "__main__":
    uvloop.run(serve(json.decode(sys.argv[1], type=Options)))
