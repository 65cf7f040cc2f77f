"""One request on its way through the api."""

from aiohttp import web
from msgspec import Struct

from api.keys import Caller
from api.notice import Notice
from api.state import State
from shared.dialects import OPENAI
from shared.idempotency.statements import NewIdempotencyKey
from shared.jobs.schemas import CreateJobRequest
from shared.request_logs.redaction import FULL


class Draft(Struct, kw_only=True):
    """An inference request before it is a job: that of a call, or a line of a batch."""

    caller: Caller
    state: State
    request_id: str
    body: bytes = b""
    """As received; of a form, its fields as JSON."""
    file_id: str | None = None
    """Id of a stored file, which the job will have; without a job the file is removed at the end of the call."""
    job_id: str | None = None
    """Id that the job will have; None: a new one."""
    options: CreateJobRequest | None = None
    """How the job is to be run, if it was sent to /v1/jobs."""
    notice: Notice | None = None
    """Who is told about the job, if the request says so."""
    headers: dict[str, str] = {}
    """Sent with the answer, also with an error: `x-job-id`, .."""
    dialect: str = OPENAI
    """Which API's defaults and forms count, see `shared.dialects`."""
    model: str | None = None
    """As called; for the request log."""
    came_under: str = FULL
    """Strictest content policy of the earlier jobs of which the server put something into the body."""
    is_stored: bool = False
    """`body` is that of a job which was made before, in the form in which jobs keep it."""


class Call(Draft, kw_only=True):
    """What a handler knows about its request."""

    request: web.Request
    started: float
    """`time.perf_counter()` when it came in."""
    received: bytes = b""
    """The body, before anything in it was put elsewhere: two requests are equal if this is."""
    key: NewIdempotencyKey | None = None
    """Of a request that makes something else than an inference job; None once it is bound to what was made."""
    upload_id: str | None = None
    """Id of a stored upload that has no row yet; it is removed at the end of the call."""


CALL: "web.RequestKey[Call]" = web.RequestKey("call", Call)
