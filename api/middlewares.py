"""Around every handler: the one place where errors become answers, and the count of answers."""

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import hdrs, web
from msgspec import Raw, json
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.call import CALL, Call
from api.error_bodies import error_body
from api.http import JSON, common_headers
from api.negotiation import preferred
from api.state import STATE
from shared.database import is_away
from shared.dialects import OPENAI, mount_of
from shared.errors import (
    ApiError,
    MethodNotAllowedError,
    NotFoundError,
    ReplayedError,
    StorageUnavailableError,
    StoredError,
)
from shared.ids import new_id
from shared.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger()
_PROBLEM: Final = "application/problem+json"
_LONGEST_RETRY_S: Final = 120
"""Stock clients wait no longer; what lasts longer is told as no use to repeat."""
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def render_errors(request: web.Request, handler: Next) -> web.StreamResponse:
    """Turn every exception into the one error shape; an unexpected one is logged with its traceback."""
    try:
        return await handler(request)
    except ApiError as caught:
        error = caught
    except web.HTTPNotFound:
        error = NotFoundError("Not Found")
    except web.HTTPMethodNotAllowed as caught:
        error = MethodNotAllowedError(
            "Method Not Allowed", headers={"Allow": ", ".join(sorted(caught.allowed_methods))}
        )
    except web.HTTPException as caught:
        error = _of_aiohttp(caught)
    except ConnectionResetError:
        raise
    except (DBAPIError, PoolTimeoutError, OSError) as caught:
        error = _of_database(caught, request)
    except Exception:  # the one broad except of the process
        log.exception("unhandled_error", path=request.path, request_id=_call(request).request_id)
        error = ApiError("An unexpected error occurred")
    call = _call(request)
    body, media_type = error_body(error, call.dialect), JSON
    if call.dialect == OPENAI and _wants_problem(request.headers.get("Accept", "")):
        body, media_type = _to_problem(body, error.http_status, call), _PROBLEM
    headers = common_headers(call) | _obeyed(error.extra_headers) | {"Content-Type": media_type}
    return web.Response(status=error.http_status, body=body, headers=headers)


def _wants_problem(accept: str) -> bool:
    """Return whether a caller names the media type and likes it as much as JSON; `*/*` does not name it."""
    return _PROBLEM in accept.lower() and preferred(accept, (_PROBLEM, JSON)) == _PROBLEM


def _to_problem(body: bytes, status: int, call: Call) -> bytes:
    """Return the body of an error with the members of RFC 9457 beside its own; `instance` is this very request."""
    problem = {
        "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status,
        "instance": f"{call.request.rel_url.raw_path}#{call.request_id}",
    }  # fmt: skip
    return json.encode(json.decode(body, type=dict[str, Raw]) | problem)


def _obeyed(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers of an error as stock clients obey them: `retry-after` up to 120 s, in milliseconds too."""
    if "retry-after" not in headers:
        return headers
    asked_s = int(headers["retry-after"])
    told_s = min(asked_s, _LONGEST_RETRY_S)
    of_long = {"x-should-retry": "false"} if asked_s > told_s else {}
    return {"retry-after-ms": str(told_s * 1000)} | headers | of_long | {"retry-after": str(told_s)}


def _of_database(caught: Exception, request: web.Request) -> ApiError:
    """Return 503 if the database, not the statement, is at fault."""
    if not is_away(caught):
        log.exception("unhandled_error", path=request.path, request_id=_call(request).request_id)
        return ApiError("An unexpected error occurred")
    log.warning("database_away", error=repr(caught), path=request.path, request_id=_call(request).request_id)
    return StorageUnavailableError()


def _of_aiohttp(caught: web.HTTPException) -> ApiError:
    """Return an error that aiohttp itself found, such as an unknown content encoding."""
    stored = StoredError(
        message=caught.reason, type="invalid_request_error", param=None, code="bad_request", status=caught.status
    )
    return ReplayedError(stored)


def _call(request: web.Request) -> Call:
    """Return the call; a request without an endpoint gets one here."""
    call = request.get(CALL)
    if call is None:
        call = request[CALL] = Call(
            caller=None,  # type: ignore[arg-type]  # nobody asked who it is
            state=request.app[STATE], request=request, request_id=new_id("req_"), started=time.perf_counter(),
            dialect=mount_of(request.path) or OPENAI,
        )  # fmt: skip
    return call


@web.middleware
async def count_answers(request: web.Request, handler: Next) -> web.StreamResponse:
    """Count every answer by its route, with the time it took."""
    begun, status = time.perf_counter(), 500
    try:
        response = await handler(request)
        status = response.status
        if request.app[STATE].leaving.is_set() and not response.prepared:  # else the caller has been told otherwise
            response.force_close()  # its next request shall go to another process
    finally:
        resource = request.match_info.route.resource
        route = "none" if resource is None else resource.canonical
        metrics = request.app[STATE].metrics
        method = request.method if request.method in hdrs.METH_ALL else "other"
        metrics.count(HTTP_REQUESTS, method, route, str(status))
        metrics.observe(HTTP_SECONDS, route, value=time.perf_counter() - begun)
    return response
