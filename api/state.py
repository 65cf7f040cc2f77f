"""What lives as long as the process, and who is calling."""

from asyncio import Event
from typing import TYPE_CHECKING

from aiohttp import ClientSession, web
from msgspec import Struct
from redis.asyncio import Redis

from api.admissions import Admissions
from api.cluster_watch import ClusterWatch
from api.done import DoneWatch
from api.keys import KeyRing
from api.last_used import LastUsed
from api.load import QueueLoad
from api.passwords import Passwords
from api.patience import Patience
from api.readers import Readers
from api.versions import Versions
from api.withdrawals import Withdrawals
from shared.database import Database
from shared.directory import Directory
from shared.errors import QueueUnavailableError
from shared.files.store import FileStore
from shared.group_commit.writer import GroupCommit
from shared.metrics import Metrics
from shared.parsing.pool import ParserPool
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import PLATFORM, lane_of
from shared.replies.inbox import Inbox
from shared.replies.reader import ReplyReader
from shared.retrieval.index import Index
from shared.secrets import SecretBox
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer


class State(Struct, frozen=True, kw_only=True):
    """Built once in `api.__main__`; handlers reach that of the caller's shard as `call.state`."""

    settings: Settings
    database: Database
    logs: Database
    """Request logs and usage reports are read from it; the database itself, or a replica that may lag."""
    files: FileStore
    """Of jobs."""
    uploads: FileStore
    """Of /v1/files."""
    writer: GroupCommit
    shard: int
    """Whose Redis, queues, limits and replies these are."""
    shards: "list[State]"
    """One for each shard, the same in all else."""
    redis: Redis
    queue: JobQueue
    """Of the inference lane."""
    platform: JobQueue
    """Of the platform lane."""
    deliveries: JobQueue
    """Of webhooks: the platform lane of the first shard."""
    load: QueueLoad
    admissions: Admissions
    withdrawals: Withdrawals
    inbox: Inbox
    patience: Patience
    reader: ReplyReader
    readers: Readers
    versions: Versions
    done: DoneWatch
    has_new_batch: Event
    """Set by whoever stored one."""
    has_held_job: Event
    """Set by whoever stored an ingestion whose scanned pages are to be read first."""
    leaving: Event
    """Set once the process is about to end: proxies shall turn to others."""
    cluster: ClusterWatch
    directory: Directory
    keys: KeyRing
    last_used: LastUsed
    passwords: Passwords
    box: SecretBox
    metrics: Metrics
    tracer: "Tracer | None" = None
    """None: nothing is traced."""
    index: Index
    parsers: ParserPool
    http: ClientSession
    """For questions to providers; jobs have workers."""
    webhooks: ClientSession
    """Sends samples to webhook endpoints."""


def state_of(state: State, shard: int) -> State:
    """Return the state of another shard; raises `QueueUnavailableError` if it is not in the settings any more."""
    if shard >= len(state.shards):
        raise QueueUnavailableError
    return state.shards[shard]


def reachable(state: State) -> "list[State]":
    """Return the shards whose Redis answers; raises `QueueUnavailableError` if none does."""
    found = [one for one in state.shards if one.inbox.is_connected]
    if not found:
        raise QueueUnavailableError
    return found


def queue_of(state: State, kind: str) -> JobQueue:
    """Return the lane of a kind of jobs."""
    return state.platform if lane_of(kind) == PLATFORM else state.queue


STATE: web.AppKey[State] = web.AppKey("state", State)
