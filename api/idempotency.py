"""`Idempotency-Key`: a request that is sent again gets the answer of the first one, and makes no second job.

| a second request with the same key    | answer                                                                     |
|---------------------------------------|----------------------------------------------------------------------------|
| another body                          | 422 `idempotency_key_reused`                                               |
| the first was a 202                   | 202 with the job as it is now                                              |
| the first has finished                | the first answer: body, stored error, or the stream from the log           |
| the first runs                        | 409 `idempotency_in_flight`; with `Prefer: wait=N` it waits for the first  |

A request that was refused before it was a job binds nothing.  Keys are those of a user; they are kept as long as the
result of the job, at least a day.
"""

import hashlib
import re
from contextlib import suppress
from typing import ClassVar, Final

from msgspec import Struct, json

from api.call import Call
from api.prefer import Prefer
from shared.clock import now_ms
from shared.dialects import OPENAI
from shared.errors import ApiError, BadRequestError, ConflictError, StorageUnavailableError
from shared.idempotency.queries import delete_idempotency_key, find_idempotency_key
from shared.idempotency.statements import NewIdempotencyKey
from shared.idempotency.tables import IdempotencyKeyRow
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import QUEUED
from shared.jobs.tables import JobRow
from shared.settings import DAY_S
from shared.unreadable import UNREADABLE

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
WAIT, ASYNC, ASYNC_WAIT = "wait", "async", "async-wait"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class InvalidIdempotencyKeyError(BadRequestError):
    """The header is not 1 to 255 visible ASCII characters."""

    code = "invalid_idempotency_key"

    def __init__(self) -> None:
        super().__init__("`Idempotency-Key` must be 1 to 255 visible ASCII characters.", param=HEADER)


class IdempotencyKeyReusedError(ApiError):
    """Another request was sent with this key."""

    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}

    def __init__(self) -> None:
        super().__init__("This `Idempotency-Key` was used for another request.", param=HEADER)


class IdempotencyInFlightError(ConflictError):
    """The first request with this key is still being answered; stock clients try again by themselves."""

    code = "idempotency_in_flight"

    def __init__(self, location: str, retry_after_ms: int) -> None:
        headers = {
            "Location": location,
            "retry-after-ms": str(retry_after_ms),
            "retry-after": str(-(-retry_after_ms // 1000)),
        }
        super().__init__("The first request with this `Idempotency-Key` is still running.", headers=headers)


IDEMPOTENCY_ERRORS: Final = (InvalidIdempotencyKeyError, IdempotencyKeyReusedError, IdempotencyInFlightError)


class Earlier(Struct, frozen=True):
    """The job that a request with this key made before, and how its answer was asked for."""

    row: JobRow
    prefers: str
    is_keyless: bool = False
    """Found by the request itself: a stock client repeats it."""


def key_of(call: Call, endpoint: str, prefer: Prefer) -> NewIdempotencyKey | None:
    """Return the key of a request, still bound to no job; None if it has none.  Raises `InvalidIdempotencyKeyError`."""
    header = call.request.headers.get(HEADER)
    if header is None:
        return None
    key = header.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise InvalidIdempotencyKeyError
    scope = "\n".join((str(call.caller.user_id), call.request.method, endpoint, key))
    return NewIdempotencyKey(
        id=hashlib.sha256(scope.encode()).hexdigest(),
        fingerprint=fingerprint_of(call.received, call.dialect),
        job_id="",
        prefers=prefers_of(prefer),
        expires_ms=0,
        key=key,
    )


def prefers_of(prefer: Prefer) -> str:
    """Return what is noted of how the answer was asked for."""
    return (ASYNC_WAIT if prefer.waits else ASYNC) if prefer.respond_async else WAIT


def key_of_part(key: NewIdempotencyKey, part: str, body: bytes) -> NewIdempotencyKey:
    """Return the key of a job that a request with a key needs before its own answer; `part` tells it from others."""
    digest = hashlib.sha256(f"{key.id}\n{part}\n".encode() + body).hexdigest()
    return NewIdempotencyKey(id=digest, fingerprint=digest, job_id="", prefers=WAIT, expires_ms=0, key=key.key)


def fingerprint_of(body: bytes, dialect: str = OPENAI) -> str:
    """Return the SHA-256 of the canonical form of a JSON body and its dialect: sorted keys, no white space."""
    with suppress(*UNREADABLE):  # numbers that Python cannot hold: the bytes as they came
        body = json.encode(json.decode(body), order="sorted")
    return hashlib.sha256(body if dialect == OPENAI else body + dialect.encode()).hexdigest()


def bind(key: NewIdempotencyKey, job_id: str, lives_ms: int) -> NewIdempotencyKey:
    """Return the key bound to a job whose result is there for so long."""
    key.job_id = job_id
    key.expires_ms = now_ms() + max(lives_ms, DAY_S * 1000)
    return key


async def find_earlier(call: Call, key: NewIdempotencyKey) -> Earlier | None:
    """Return the job this key was bound to before.

    Raises:
        IdempotencyKeyReusedError: that was another request.
        StorageUnavailableError: whoever asked for that job was told that there is none; the key will be free again.

    """
    async with call.state.database.read() as session:
        found: IdempotencyKeyRow | None = await find_idempotency_key(session, key.id)
        if found is None:
            return None
        if found.expires_ms > now_ms():
            if found.fingerprint != key.fingerprint:
                raise IdempotencyKeyReusedError
            row = await session.get(JobRow, found.job_id, options=LIGHT)
            if row is not None:
                if row.cancel_requested_ms is not None or row.status == QUEUED:
                    await refuse_withdrawn(call, row)
                return Earlier(row, found.prefers)
    async with call.state.database.transaction() as session:
        await delete_idempotency_key(session, key.id, found.job_id)
    return None


async def refuse_withdrawn(call: Call, row: JobRow) -> None:
    """Raise `StorageUnavailableError` if the caller of this job was told so: it is about to be cancelled."""
    if await call.state.withdrawals.has(row.id):
        raise StorageUnavailableError
