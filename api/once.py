"""`Idempotency-Key` of requests that make something else than an inference job: an upload, a batch, a key, a router.

What a request makes and the answer to it are one transaction, see `keep_answer`: whatever fails, there are both or
neither.  The primary key decides between requests of one moment: the transaction of all but one is rolled back, and
they get the answer of that one.  What an ingestion makes is a job; its key is bound to that, see `api.knowledge`.

The answer is kept for a day, sealed, and given to whoever sends the same request again.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from aiohttp import web
from msgspec import Struct, json
from msgspec.structs import asdict
from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from api.idempotency import REPLAYED, IdempotencyInFlightError, IdempotencyKeyReusedError, key_of
from api.prefer import NO_PREFERENCE
from api.submit import DUPLICATE
from shared import fault_points
from shared.clock import now_ms
from shared.errors import ApiError
from shared.idempotency.queries import delete_expired_key, find_idempotency_key
from shared.idempotency.statements import NewIdempotencyKey
from shared.idempotency.tables import IdempotencyKeyRow
from shared.jobs.schemas import public_id
from shared.settings import DAY_S

Answer = TypeVar("Answer", bound=Struct)
Respond = Callable[[], Awaitable[web.StreamResponse]]
_KEPT_HEADERS: Final = ("Content-Type", "Location", "x-job-id")
_JSON: Final = {"Content-Type": "application/json"}
_ASK_AGAIN_MS: Final = 500


class _Kept(Struct):
    """An answer."""

    body: str
    headers: dict[str, str]


async def respond_once(call: Call, path: str, status: int, respond: Respond) -> web.StreamResponse:
    """Return the answer of this request, or of the one that was sent with the same key before.

    `status` is that of the answer if nothing is wrong.  Raises the errors of `api.idempotency`; what `respond` raises
    is not kept.
    """
    key = key_of(call, path, NO_PREFERENCE)
    if key is None:
        return await respond()
    target = f"{call.request.path}\n{key.fingerprint}".encode()  # a path may name what the body does not
    key.fingerprint, key.http_status = hashlib.sha256(target).hexdigest(), status
    if (kept := await _find(call, key)) is not None:
        return kept
    call.key = key
    try:
        response = await respond()
        fault_points.reach(call.state.settings, "after_made")
        if call.key is not None:
            await _keep_response(call, key, response)
    except (ApiError, IntegrityError, *DUPLICATE):
        if (kept := await _find(call, key)) is not None:  # a request of the same moment was first
            return kept
        raise
    return response


async def keep_answer(session: AsyncSession, call: Call, answer: Answer) -> Answer:
    """Add the answer to the transaction that makes what it tells of; to be the last step of that.

    Raises `IntegrityError` if the key of the request is bound already.
    """
    await _bind(session, call, json.encode(answer).decode(), _JSON | call.headers)
    return answer


def note_answer(call: Call, answer: Struct) -> None:
    """Have the answer kept with the key of the request, once that is bound to the job of `call.file_id`."""
    if call.key is not None:
        headers = _JSON | call.headers | {"x-job-id": public_id(call.file_id or "")}
        call.key.body = _seal(call, json.encode(answer).decode(), headers)


async def _keep_response(call: Call, key: NewIdempotencyKey, response: web.StreamResponse) -> None:
    """Keep the answer of a request that made nothing which a repetition would make a second time."""
    body: Any = response.body if isinstance(response, web.Response) else b""
    key.http_status = response.status
    async with call.state.database.transaction() as session:
        await _bind(session, call, bytes(body or b"").decode(), response.headers)


async def _bind(session: AsyncSession, call: Call, body: str, headers: Mapping[str, str]) -> None:
    if call.key is not None:
        sealed, expires_ms = _seal(call, body, headers), now_ms() + DAY_S * 1000
        columns = asdict(call.key) | {"body": sealed, "expires_ms": expires_ms}
        del columns["key"]
        session.add(IdempotencyKeyRow(**columns))
    await session.flush()
    call.key = None


def _seal(call: Call, body: str, headers: Mapping[str, str]) -> bytes:
    kept = _Kept(body=body, headers={name: headers[name] for name in _KEPT_HEADERS if name in headers})
    return call.state.box.seal(json.encode(kept).decode())


async def _find(call: Call, key: NewIdempotencyKey) -> web.Response | None:
    """Return the answer that is kept; None if there is none, or the key is bound to a job."""
    async with call.state.database.read() as session:
        row = await find_idempotency_key(session, key.id)
    if row is None:
        return None
    if row.expires_ms <= now_ms():
        async with call.state.database.transaction() as session:
            await delete_expired_key(session, key.id, now_ms())
        return None
    if row.fingerprint != key.fingerprint:
        raise IdempotencyKeyReusedError
    if row.body is None or row.http_status is None:
        if row.job_id:
            return None
        raise IdempotencyInFlightError(call.request.path, _ASK_AGAIN_MS)  # of a process of an earlier version
    kept = json.decode(call.state.box.open(row.body), type=_Kept)
    headers = kept.headers | call.headers | {REPLAYED: "true", "x-request-id": call.request_id}
    return web.Response(status=row.http_status, body=kept.body.encode(), headers=headers)
