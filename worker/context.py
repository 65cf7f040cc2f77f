"""What lives as long as the worker process, and what lives as long as one attempt."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import ClientSession
from msgspec import UNSET, Raw, Struct, UnsetType
from redis.asyncio import Redis

from shared.admission.gate import Gate
from shared.database import Database
from shared.directory import Directory, Provider, Router
from shared.files.store import FileStore
from shared.group_commit.units import Unit
from shared.group_commit.writer import GroupCommit
from shared.jobs.messages import JobMessage
from shared.metrics import Metrics
from shared.parsing.pool import ParserPool
from shared.queue.job_queue import JobQueue
from shared.queue.pace import Pace
from shared.replies.writer import Reply, ReplyWriter
from shared.secrets import SecretBox
from shared.settings import Settings
from shared.usage.schemas import Usage
from worker.providers.base import Adapter
from worker.response_cache import CacheLook
from worker.routing.choice import Routing

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer


class Runtime(Struct, frozen=True, kw_only=True):
    """Built once in `worker.__main__`."""

    name: str
    """Of this process, in the request log."""
    settings: Settings
    database: Database
    files: FileStore
    """Of jobs."""
    uploads: FileStore
    """Of /v1/files."""
    writer: GroupCommit
    replies: ReplyWriter
    redis: Redis
    shard: int
    """Whose jobs this process runs; `redis` is that of it."""
    deliveries: JobQueue
    """Of webhooks: the platform lane of the first shard."""
    webhooks: ClientSession
    """Sends webhooks and nothing else."""
    box: SecretBox
    gate: Gate
    routing: Routing
    directory: Directory
    adapters: dict[str, Adapter]
    pace: Pace
    metrics: Metrics
    tracer: "Tracer | None" = None
    """None: nothing is traced."""
    parsers: ParserPool


class TokenCount(Struct, kw_only=True):
    """Tokens of one attempt; `is_estimated` if any of them was counted here."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    is_estimated: bool = False
    calls: int = 1
    """Calls of the provider that these tokens are the sum of."""
    prompt_details: Raw | UnsetType = UNSET
    completion_details: Raw | UnsetType = UNSET


class Produced(Struct, kw_only=True):
    """What a kind made of a provider's answer."""

    tokens: TokenCount
    render: Callable[[Usage], bytes]
    """Returns the body of the route, once the usage is known."""
    render_last_chunk: Callable[[Usage], bytes] | None = None
    """Returns the chunk with the usage, of a stream."""
    provider_request_id: str | None = None
    content_type: str = "application/json"
    """Of the body."""
    incomplete_reason: str | None = None
    """Why the answer was cut, of a kind that calls it incomplete then."""
    statements: Unit = ()
    """Written in the transaction that ends the job."""


class JobContext(Struct, kw_only=True):
    """One attempt of one job."""

    runtime: Runtime
    message: JobMessage
    request: bytes
    """The body as the caller sent it."""
    router: Router
    provider: Provider
    attempt: int
    log_id: str
    """Of its row in the request log."""
    begun_ms: int
    """When this attempt began."""
    reply: Reply
    dropped: list[str] = []
    """Parameters that the provider does not get."""
    kept: CacheLook | None = None
    """The answer, if the router has kept it: no provider is called."""
    looks: list[CacheLook] = []
    """What was looked up in the cache of answers."""
    first_token_ms: int | None = None
    """When the first content, reasoning or tool call came; set by the kind."""
    count_so_far: Callable[[], TokenCount] | None = None
    """Counts what has been produced, for an attempt that is broken off; set by the kind once there is something."""
