"""Typed endpoints on aiohttp: one signature drives decoding, encoding and the API reference.

    routes = Routes("Jobs")

    @routes.get("/v1/jobs/{job_id}", raises=(NotFoundError,))
    async def get_job(call: Call, job_id: str, query: WaitQuery) -> Job: ...

Parameters are bound by name: `body` (JSON body), `form` (multipart form, see `api.forms`), `query` (query string, a
Struct), any other name is a path parameter.
What a handler returns: a Struct (encoded as JSON), None (204), `Reply[T]` (bytes that are a T already), or
`EventStream[T]` (server-sent events, each carrying a T),
or `ByteStream` (bytes of another media type, sent as they come).
"""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import NoneType, UnionType
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import structlog
from aiohttp import web
from msgspec import Struct, json

from api.binding import bind
from api.call import CALL, Call, Draft
from api.idempotency import HEADER
from api.once import respond_once
from api.refusals import log_refusal
from api.rights import Right, check_rights, scope_of
from api.state import STATE, state_of
from api.stream_forms import error_event
from api.submission import Submission
from shared.dialects import mount_of
from shared.errors import ApiError, ReplayedError
from shared.ids import new_id
from shared.jobs.schemas import public_id

log = structlog.get_logger()
T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]
Prepare = Callable[[Draft, Any], Awaitable[Submission]]
JSON: Final = "application/json"
_VERSION: Final = "2020-10-01"
_NOT_IN_PATH: Final = frozenset({"call", "body", "form", "query"})
_MOUNTED: Final = ("/v1/", "/v2/", "/external/", "/status")
_NOT_MOUNTED: Final = ("/v1/admin/", "/v1/auth/")


class Reply(Struct, Generic[T], frozen=True, kw_only=True):
    """An answer that is encoded already."""

    body: bytes
    status: int = 200
    content_type: str = JSON


class EventStream(Generic[T]):
    """A handler result sent as `text/event-stream`; items are whole events, several at a time if they are there."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self.events = events


class ByteStream(Struct, frozen=True, kw_only=True):
    """A handler result sent as it comes; an error before the first piece becomes a status code."""

    pieces: AsyncIterator[bytes]
    content_type: str
    status: int = 200


class Endpoint(Struct, frozen=True, kw_only=True):
    """All that is known about one operation; read by the router and by `api.openapi`."""

    method: str
    path: str
    tag: str
    dialect: str | None
    """Of a path that only one API has."""
    right: Right | None
    status: int
    raises: tuple[type[ApiError], ...]
    handler: Handler
    body: Any
    form: Any
    query: Any
    path_params: dict[str, Any]
    returns: Any
    streams: Any
    accepted: Any
    """Body of the 202 that `Prefer: respond-async` asks for; None if the operation has none."""
    prepare: Prepare | None
    """Of an inference operation: what makes a submission of a decoded request, however it came."""
    is_inference: bool
    """Refused calls are kept in the request log."""
    media_type: str
    """Of `returns`; only JSON is encoded and checked."""
    other_media_types: tuple[str, ...]
    """In which the answer may come, too."""

    @property
    def is_mounted(self) -> bool:
        """Return whether the path is served under the mounts, too: what callers use, not what operators do."""
        return self.path.startswith(_MOUNTED) and not self.path.startswith(_NOT_MOUNTED)

    @property
    def takes_key(self) -> bool:
        """Return whether `Idempotency-Key` counts; requests that become jobs look after it themselves."""
        return self.method == "POST" and self.right is not None and not self.is_inference


REQUESTS: "web.AppKey[dict[str, Endpoint]]" = web.AppKey("requests", dict)
"""Endpoints that make a job of what they are sent, JSON or a form, by path."""


class Routes:
    """The endpoints of one module, in source order."""

    def __init__(self, tag: str, dialect: str | None = None) -> None:
        self.tag = tag
        self.dialect = dialect
        self.endpoints: list[Endpoint] = []

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a GET endpoint."""
        return self._add("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a POST endpoint."""
        return self._add("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PUT endpoint."""
        return self._add("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PATCH endpoint."""
        return self._add("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a DELETE endpoint."""
        return self._add("DELETE", path, **options)

    def _add(  # noqa: PLR0913  # the options of an endpoint
        self, method: str, path: str, *, right: Right | None = "key", raises: tuple[type[ApiError], ...] = (),
        status: int = 200, accepted: Any = None, prepare: Prepare | None = None, is_inference: bool = False,
        media_type: str = JSON, other_media_types: tuple[str, ...] = (),
    ) -> Callable[[Handler], Handler]:  # fmt: skip
        def declare(handler: Handler) -> Handler:
            hints = get_type_hints(handler, include_extras=True)
            returns, streams = _split(hints.pop("return"))
            names = [name for name in inspect.signature(handler).parameters if name not in _NOT_IN_PATH]
            self.endpoints.append(
                Endpoint(
                    method=method, path=path, tag=self.tag, dialect=self.dialect, right=right, status=status,
                    raises=raises, handler=handler, body=hints.get("body"), form=hints.get("form"),
                    query=hints.get("query"), path_params={name: hints[name] for name in names}, returns=returns,
                    streams=streams, accepted=accepted, prepare=prepare,
                    is_inference=is_inference or prepare is not None, media_type=media_type,
                    other_media_types=other_media_types,
                )
            )  # fmt: skip
            return handler

        return declare


def _split(annotation: Any) -> tuple[Any, Any]:
    """Split `Reply[A] | EventStream[B] | None` into (A, B); either may be None."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    streams = [get_args(member)[0] for member in members if get_origin(member) is EventStream]
    replies = [get_args(member)[0] for member in members if get_origin(member) is Reply]
    plain = [m for m in members if get_origin(m) not in (EventStream, Reply) and m is not NoneType]
    plain = [bytes if m is ByteStream else m for m in plain]
    return next(iter([*plain, *replies]), None), next(iter(streams), None)


def aiohttp_handler(endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the aiohttp handler of `endpoint`; decoders are built once, here."""
    decoder = json.Decoder(endpoint.body, strict=False) if endpoint.body else None
    checker = json.Decoder(endpoint.returns) if endpoint.returns and endpoint.media_type == JSON else None
    scope = scope_of(endpoint.method, endpoint.path, is_inference=endpoint.is_inference)
    declared = {error.code for error in endpoint.raises} | _ALWAYS_DECLARED

    async def handle(request: web.Request) -> web.StreamResponse:
        state = request.app[STATE]
        call = Call(
            caller=None,  # type: ignore[arg-type]  # set below, before any handler sees it
            state=state, request=request, request_id=new_id("req_"), started=time.perf_counter(), headers={},
        )  # fmt: skip
        request[CALL] = call
        if (dialect := endpoint.dialect or mount_of(request.path)) is not None:
            call.dialect = dialect
        try:
            if endpoint.right is not None:
                call.caller = await state.keys.authenticate(
                    request.headers.get("Authorization"), may_be_expired=endpoint.right == "account"
                )
                check_rights(call.caller, endpoint.right, scope, endpoint.path)
                call.state = state_of(state, call.caller.shard)
                if dialect is None and call.caller.dialect is not None:
                    call.dialect = call.caller.dialect
            arguments = await bind(call, endpoint, decoder)
            if endpoint.takes_key and HEADER in request.headers:
                response = await respond_once(
                    call, endpoint.path, endpoint.status, partial(_answer, call, endpoint, arguments)
                )
            else:
                response = await _answer(call, endpoint, arguments)
        except ApiError as error:
            if state.settings.strict and error.code not in declared and not isinstance(error, ReplayedError):
                raise AssertionError(f"{endpoint.path} raised undeclared `{error.code}`") from error
            if endpoint.is_inference and "x-job-id" not in call.headers:
                await log_refusal(call, endpoint.path, error)
            raise
        finally:
            await _discard_files(call)
        is_declared = response.status == endpoint.status and response.content_type == JSON
        if state.settings.strict and checker is not None and is_declared and isinstance(response, web.Response):
            with suppress(RecursionError):  # a stored document may be nested as deeply as a decoder can go
                checker.decode(bytes(response.body))  # type: ignore[arg-type]  # it breaks its own declaration
        return response

    return handle


async def _answer(call: Call, endpoint: Endpoint, arguments: dict[str, Any]) -> web.StreamResponse:
    result = await endpoint.handler(call, **arguments)
    if isinstance(result, EventStream):
        return await _send_events(call, result)
    if isinstance(result, ByteStream):
        return await _send_bytes(call, result)
    return _respond(call, endpoint, result)


async def _discard_files(call: Call) -> None:
    """Remove the files that came with the request and became part of nothing."""
    if call.file_id is not None and call.headers.get("x-job-id") != public_id(call.file_id):
        await call.state.files.delete([call.file_id])
    if call.upload_id is not None:
        await call.state.uploads.delete([call.upload_id])


_ALWAYS_DECLARED: Final = frozenset(
    {
        "invalid_json", "invalid_request", "invalid_api_key", "account_expired", "permission_denied",
        "body_too_large", "body_timeout", "unsupported_media_type", "storage_unavailable",
        "invalid_form", "file_too_large", "invalid_idempotency_key",
        "idempotency_key_reused", "idempotency_in_flight",
    }
)  # fmt: skip


def _respond(call: Call, endpoint: Endpoint, result: Any) -> web.Response:
    if isinstance(result, Reply):
        return web.Response(
            status=result.status, body=result.body, headers=common_headers(call) | {"Content-Type": result.content_type}
        )
    if result is None:
        return web.Response(status=204, headers=common_headers(call))
    headers = common_headers(call) | {"Content-Type": JSON}
    return web.Response(status=endpoint.status, body=json.encode(result), headers=headers)


async def _send_bytes(call: Call, stream: ByteStream) -> web.StreamResponse:
    """Send the pieces; if one cannot be made, the connection breaks, since nothing else tells that it was not all."""
    pieces = stream.pieces
    first = await anext(pieces, b"")
    headers = common_headers(call) | {"Content-Type": stream.content_type}
    response = web.StreamResponse(status=stream.status, headers=headers)
    try:
        await response.prepare(call.request)
        await response.write(first)
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        pass
    except Exception:  # the headers are out
        log.exception("stream_broken", request_id=call.request_id, path=call.request.path)
        if call.request.transport is not None:
            call.request.transport.abort()
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]  # an async generator
    return response


def common_headers(call: Call) -> dict[str, str]:
    """Return the headers of every answer to this call."""
    return {
        "x-request-id": call.request_id,
        "openai-version": _VERSION,
        "openai-processing-ms": str(int((time.perf_counter() - call.started) * 1000)),
        **call.headers,
    }


async def _send_events(call: Call, stream: EventStream[Any]) -> web.StreamResponse:
    """Send the events; an error before the first one becomes a status code.

    A reader that goes away ends the stream; what follows for the job is the business of whoever made the events.
    """
    events = stream.events
    first = await anext(events, None)
    headers = common_headers(call) | {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
    }
    if first is None:
        await events.aclose()  # type: ignore[attr-defined]  # an async generator
        return web.Response(status=204, headers=common_headers(call))
    response = web.StreamResponse(headers=headers)
    try:
        await response.prepare(call.request)
        await response.write(first)
        async for event in events:
            await response.write(event)
        await response.write_eof()
    except ConnectionError:
        pass
    except Exception:  # the headers are out: what happens now can only be told as an event
        log.exception("stream_broken", request_id=call.request_id, path=call.request.path)
        with suppress(ConnectionError):
            await response.write(error_event(ApiError("An unexpected error occurred"), call.dialect))
            await response.write_eof()
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    return response
