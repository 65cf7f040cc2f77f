"""Shards: each is a Redis of its own with the queues, limits, budgets and replies of some organizations.

An organization names its shard; users without one belong to the first.  A job keeps the shard it was accepted in, so it
is followed, cancelled and restored there wherever its organization goes.  Keys, files and the ledger are in the one
database; logins, webhooks and figures of api processes are in the first Redis.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool

from api.admissions import Admissions
from api.answer import deliver_from_database
from api.done import DoneWatch
from api.load import QueueLoad
from api.patience import Patience
from api.readers import Readers
from api.state import State
from api.waiting_jobs import give_up
from api.withdrawals import Withdrawals
from shared.admission.accounts import recount_emissions
from shared.admission.gate import Gate
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import INFERENCE, LANES, PLATFORM, open_lane
from shared.replies.inbox import Inbox
from shared.replies.reader import ReplyReader


@asynccontextmanager
async def open_shard(pool: BlockingConnectionPool, parts: dict[str, Any]) -> AsyncIterator[State]:
    """Yield the state of one shard, made of the parts that all of them share, and close what is its own."""
    settings, database, writer = parts["settings"], parts["database"], parts["writer"]
    redis = open_lane(pool, INFERENCE)
    queue, platform = JobQueue(redis), JobQueue(open_lane(pool, PLATFORM))
    load = QueueLoad(queue, settings.max_queued)
    admissions = Admissions(Gate(redis, settings.rate_limiting_strategy), database, settings.accept_patience_s)
    withdrawals = Withdrawals(redis, writer, admissions)
    inbox = Inbox(redis, lambda job_ids: deliver_from_database(database, inbox, job_ids))
    reader, readers = ReplyReader(redis), Readers(redis, settings.stream_grace_s)
    done, patience = DoneWatch(redis, LANES), Patience(settings.routing_wait_s)
    async with AsyncExitStack() as stack:
        for part in (queue, platform, load, admissions, withdrawals, inbox, reader, readers, done, patience):
            stack.push_async_callback(part.close)
        state = State(
            **parts, shard=len(parts["shards"]), redis=redis, queue=queue, platform=platform, load=load,
            admissions=admissions, withdrawals=withdrawals, inbox=inbox, reader=reader, readers=readers, done=done,
            patience=patience,
        )  # fmt: skip
        await inbox.start()
        load.start()
        readers.start()
        patience.start(lambda job_ids: give_up(state, job_ids))
        yield state


async def forget_accounts(state: State, *accounts: str) -> None:
    """Have accounts read again, since an administrator changed them or their shard."""
    await asyncio.gather(*(one.admissions.forget(accounts) for one in state.shards))


async def recount_account(state: State, account: str) -> None:
    """Add up the emissions of an account anew: its owner has a carbon budget again."""
    await recount_emissions(state.database, account)
    await forget_accounts(state, account)
