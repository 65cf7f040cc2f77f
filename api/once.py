"""`Idempotency-Key` of requests that make something else than a job: an upload, a batch, a key, a router.

The first answer is kept for a day, sealed, and given to whoever sends the same request again.  A process that dies
between what it made and keeping the answer leaves a key that is in flight for a minute; then the request counts as new.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from msgspec import Struct, json
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete, update

from api.call import Call
from api.idempotency import REPLAYED, IdempotencyInFlightError, IdempotencyKeyReusedError, key_of
from api.prefer import NO_PREFERENCE
from shared.clock import now_ms
from shared.idempotency.tables import IdempotencyKeyRow
from shared.settings import DAY_S

Respond = Callable[[], Awaitable[web.StreamResponse]]
_KEPT_HEADERS: Final = ("Content-Type", "Location", "x-job-id")
_IN_FLIGHT_MS: Final = 60_000
_ASK_AGAIN_MS: Final = 500


class _Kept(Struct):
    """An answer."""

    body: str
    headers: dict[str, str]


async def respond_once(call: Call, path: str, respond: Respond) -> web.StreamResponse:
    """Return the answer of this request, or of the one that was sent with the same key before.

    Raises the errors of `api.idempotency`; what `respond` raises keeps nothing.
    """
    key = key_of(call, path, NO_PREFERENCE)
    if key is None:
        return await respond()
    target = f"{call.request.path}\n{key.fingerprint}".encode()  # a path may name what the body does not
    fingerprint = hashlib.sha256(target).hexdigest()
    while not await _begin(call, key.id, fingerprint):
        if (kept := await _earlier(call, key.id, fingerprint)) is not None:
            return kept
    try:
        response = await respond()
    except BaseException:
        await _forget(call, key.id, col(IdempotencyKeyRow.http_status).is_(None))
        raise
    await _keep(call, key.id, response)
    return response


async def _begin(call: Call, key_id: str, fingerprint: str) -> bool:
    """Return whether this request is the first one with the key."""
    row = IdempotencyKeyRow(
        id=key_id, fingerprint=fingerprint, job_id="", prefers="", expires_ms=now_ms() + _IN_FLIGHT_MS
    )
    try:
        async with call.state.database.transaction() as session:
            session.add(row)
    except IntegrityError:
        return False
    return True


async def _earlier(call: Call, key_id: str, fingerprint: str) -> web.Response | None:
    """Return the answer of the first request; None if it has been forgotten."""
    async with call.state.database.read() as session:
        row = await session.get(IdempotencyKeyRow, key_id)
    if row is None:
        return None
    if row.expires_ms <= now_ms():
        await _forget(call, key_id, col(IdempotencyKeyRow.expires_ms) <= now_ms())
        return None
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReusedError
    if row.http_status is None or row.body is None:
        raise IdempotencyInFlightError(call.request.path, _ASK_AGAIN_MS)
    kept = json.decode(call.state.box.open(row.body), type=_Kept)
    headers = kept.headers | call.headers | {REPLAYED: "true", "x-request-id": call.request_id}
    return web.Response(status=row.http_status, body=kept.body.encode(), headers=headers)


async def _keep(call: Call, key_id: str, response: web.StreamResponse) -> None:
    body: Any = response.body if isinstance(response, web.Response) else b""
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    kept = _Kept(body=bytes(body or b"").decode(), headers=headers)
    values = {
        "http_status": response.status, "body": call.state.box.seal(json.encode(kept).decode()),
        "expires_ms": now_ms() + DAY_S * 1000,
    }  # fmt: skip
    async with call.state.database.transaction() as session:
        await session.exec(update(IdempotencyKeyRow).where(col(IdempotencyKeyRow.id) == key_id).values(**values))


async def _forget(call: Call, key_id: str, condition: Any) -> None:
    async with call.state.database.transaction() as session:
        await session.exec(delete(IdempotencyKeyRow).where(col(IdempotencyKeyRow.id) == key_id, condition))
