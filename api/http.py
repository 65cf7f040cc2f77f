"""Typed endpoints on aiohttp: one signature drives decoding, encoding and the API reference.

    routes = Routes("Jobs")

    @routes.get("/v1/jobs/{job_id}", raises=(NotFoundError,))
    async def get_job(call: Call, job_id: str, query: WaitQuery) -> Job: ...

Parameters are bound by name: `body` (JSON body), `form` (multipart form, see `api.forms`), `query` (query string, a
Struct), any other name is a path parameter.
What a handler returns: a Struct (encoded as JSON), None (204), `Reply[T]` (bytes that are a T already), or
`EventStream[T]` (server-sent events, each carrying a T).
"""

import inspect
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from msgspec import Struct, json
from msgspec.structs import fields

from api.call import CALL, Call
from api.forms import read_form
from api.refusals import log_refusal
from api.rights import Right, check_rights, scope_of
from api.state import STATE
from shared.errors import (
    ApiError,
    BodyTooLargeError,
    InvalidJsonError,
    ReplayedError,
    UnprocessableEntityError,
    to_unprocessable,
)
from shared.ids import new_id
from shared.jobs.schemas import public_id

log = structlog.get_logger()
T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]
JSON: Final = "application/json"
_VERSION: Final = "2020-10-01"
_NOT_IN_PATH: Final = frozenset({"call", "body", "form", "query"})
_MAX_DEPTH: Final = 256
_CURSORS: Final = frozenset({"after", "starting_after"})
"""Have an error of their own for what nobody gave out."""
_MAX_CONTAINERS: Final = 1_000_000
_TEXT: Final = re.compile(rb'"[^"]*"')
_NOT_STRUCTURE: Final = bytes(character for character in range(256) if character not in b'[]{}"')


class Reply(Struct, Generic[T], frozen=True, kw_only=True):
    """An answer that is encoded already."""

    body: bytes
    status: int = 200
    content_type: str = JSON


class EventStream(Generic[T]):
    """A handler result sent as `text/event-stream`; items are whole events, several at a time if they are there."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self.events = events


class Endpoint(Struct, frozen=True, kw_only=True):
    """All that is known about one operation; read by the router and by `api.openapi`."""

    method: str
    path: str
    tag: str
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
    is_inference: bool
    """Refused calls are kept in the request log."""
    media_type: str
    """Of `returns`; only JSON is encoded and checked."""
    other_media_types: tuple[str, ...]
    """In which the answer may come, too."""


INFERENCE: "web.AppKey[dict[str, Endpoint]]" = web.AppKey("inference", dict)
"""Inference endpoints that take JSON, by path."""


class Routes:
    """The endpoints of one module, in source order."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
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
        status: int = 200, accepted: Any = None, is_inference: bool = False, media_type: str = JSON,
        other_media_types: tuple[str, ...] = (),
    ) -> Callable[[Handler], Handler]:  # fmt: skip
        def declare(handler: Handler) -> Handler:
            hints = get_type_hints(handler, include_extras=True)
            returns, streams = _split(hints.pop("return"))
            names = [name for name in inspect.signature(handler).parameters if name not in _NOT_IN_PATH]
            self.endpoints.append(
                Endpoint(
                    method=method, path=path, tag=self.tag, right=right, status=status, raises=raises,
                    handler=handler, body=hints.get("body"), form=hints.get("form"), query=hints.get("query"),
                    path_params={name: hints[name] for name in names}, returns=returns, streams=streams,
                    accepted=accepted, is_inference=is_inference, media_type=media_type,
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
        try:
            if endpoint.right is not None:
                call.caller = await state.keys.authenticate(
                    request.headers.get("Authorization"), may_be_expired=endpoint.right == "account"
                )
                check_rights(call.caller, endpoint.right, scope, endpoint.path)
            arguments = await _bind(call, endpoint, decoder)
            result = await endpoint.handler(call, **arguments)
            if isinstance(result, EventStream):
                return await _send_events(call, result)
            response = _respond(call, endpoint, result)
        except ApiError as error:
            if state.settings.strict and error.code not in declared and not isinstance(error, ReplayedError):
                raise AssertionError(f"{endpoint.path} raised undeclared `{error.code}`") from error
            if endpoint.is_inference and "x-job-id" not in call.headers:
                await log_refusal(call, endpoint.path, error)
            raise
        finally:
            if call.file_id is not None and call.headers.get("x-job-id") != public_id(call.file_id):
                await state.files.delete([call.file_id])
        is_declared = response.status == endpoint.status and response.content_type == JSON
        if state.settings.strict and checker is not None and is_declared:
            with suppress(RecursionError):  # a stored document may be nested as deeply as a decoder can go
                checker.decode(bytes(response.body))  # type: ignore[arg-type]  # it breaks its own declaration
        return response

    return handle


_ALWAYS_DECLARED: Final = frozenset(
    {
        "invalid_json", "invalid_request", "invalid_api_key", "account_expired", "permission_denied",
        "body_too_large", "storage_unavailable", "invalid_form", "file_too_large",
    }
)  # fmt: skip


async def _bind(call: Call, endpoint: Endpoint, decoder: "json.Decoder[Any] | None") -> dict[str, Any]:
    """Return the handler's arguments; raises the 4xx of what does not fit."""
    arguments: dict[str, Any] = {}
    origin = ["path"]
    try:
        for name, kind in endpoint.path_params.items():
            origin = ["path", name]
            arguments[name] = msgspec.convert(call.request.match_info[name], kind, strict=False)
        if endpoint.query is not None:
            origin = ["query"]
            arguments["query"] = msgspec.convert(_query(call.request, endpoint.query), endpoint.query, strict=False)
        if endpoint.form is not None:
            origin = ["body"]
            arguments["form"] = await read_form(call, endpoint.form)
        if decoder is not None:
            origin = ["body"]
            call.body = call.received = await _read_body(call.request)
            if _is_huge(call.body):
                raise InvalidJsonError
            arguments["body"] = decoder.decode(call.body)
            if _is_deep(call.body):
                raise InvalidJsonError
    except msgspec.ValidationError as error:
        if decoder is not None and origin == ["body"] and not _is_json(call.body):
            raise InvalidJsonError from error
        raise to_unprocessable(error, origin) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJsonError from error
    return arguments


def _is_huge(body: bytes) -> bool:
    """Return whether the document has more lists and objects than anybody needs; they cost far more than their text."""
    return len(body) > _MAX_CONTAINERS and body.count(b"[") + body.count(b"{") > _MAX_CONTAINERS


def _is_deep(body: bytes) -> bool:
    """Return whether the document is nested so deeply that reading or rewriting it again may fail.

    Works on whole documents at the speed of C: what is not a bracket is removed, then the innermost pairs, level by
    level.
    """
    if body.count(b"[") + body.count(b"{") <= _MAX_DEPTH:
        return False
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, delete=_NOT_STRUCTURE)
    brackets = _TEXT.sub(b"", plain.replace(b'""', b""))
    for _ in range(_MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return False
    return True


def _is_json(body: bytes) -> bool:
    """Return whether the body is well-formed as a whole; a decoder stops at the first member that does not fit."""
    try:
        json.decode(body)
    except (msgspec.ValidationError, RecursionError):
        return True
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


async def _read_body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        limit = request.app[STATE].settings.max_body_bytes
        raise BodyTooLargeError(f"Request body is larger than {limit} bytes.") from None
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise InvalidJsonError from error


def _query(request: web.Request, kind: Any) -> dict[str, Any]:
    """Return the query by member; lists are repeated members, dicts are spelled `name[key]=value`."""
    found: dict[str, Any] = {}
    members = {field.name: get_origin(field.type) for field in fields(kind)}
    for name, value in request.query.items():
        if "\x00" in name or ("\x00" in value and name not in _CURSORS):
            raise UnprocessableEntityError(["query", name.replace("\x00", "")], "NUL characters are not allowed")
        head, bracket, rest = name.partition("[")
        if members.get(name) is list:
            found.setdefault(name, []).append(value)
        elif bracket and members.get(head) is list:
            found.setdefault(head, []).append(value)
        elif bracket and members.get(head) is dict:
            found.setdefault(head, {})[rest.removesuffix("]")] = value
        elif name in members:
            found[name] = value
    return found


def _respond(call: Call, endpoint: Endpoint, result: Any) -> web.Response:
    if isinstance(result, Reply):
        return web.Response(
            status=result.status, body=result.body, headers=common_headers(call) | {"Content-Type": result.content_type}
        )
    if result is None:
        return web.Response(status=204, headers=common_headers(call))
    headers = common_headers(call) | {"Content-Type": JSON}
    return web.Response(status=endpoint.status, body=json.encode(result), headers=headers)


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
            await response.write(b"data: " + ApiError("An unexpected error occurred").body() + b"\n\n")
            await response.write_eof()
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    return response
