"""POST /v1/requests: the caller's requests of the last minutes, with bodies, from the request log."""

import datetime as dt
from typing import Final

from msgspec import json

from api.call import Call
from api.error_bodies import error_body
from api.http import Routes
from shared.clock import now_ms, to_iso
from shared.dialects import OPENAI
from shared.errors import InvalidFieldError, ReplayedError, StoredError
from shared.jobs.schemas import public_id
from shared.jobs.tables import JobRow
from shared.request_logs.listing_queries import told_error
from shared.request_logs.queries import MAX_BODY_BYTES, LoggedRow, list_logged_requests
from shared.request_logs.redaction import FULL, NOTHING, policy_of, redact_body, strictest
from shared.request_logs.schemas import LoggedRequest, LoggedRequests, QueryRequestsRequest
from shared.request_logs.tables import RequestLogRow
from shared.usage.schemas import MICRO

routes = Routes("Requests")
_LIMIT: Final = 1000


@routes.post("/v1/requests")
async def query_requests(call: Call, body: QueryRequestsRequest) -> LoggedRequests:
    """List the caller's requests in the `period` minutes before `timestamp`, newest first, at most 1,000.

    Running and refused ones are among them; administrators see those of everybody.
    """
    until_ms = _until_ms(body.timestamp)
    user_id = None if call.caller.is_admin else call.caller.user_id
    async with call.state.database.read() as session:
        rows = await list_logged_requests(
            session, user_id, until_ms - body.period * 60_000, until_ms, body.endpoint, _LIMIT + 1
        )
    names = call.state.settings.secret_members
    return LoggedRequests(requests=[_logged(row, names) for row in rows[:_LIMIT]], truncated=len(rows) > _LIMIT)


def _until_ms(timestamp: str | None) -> int:
    now = now_ms()
    if timestamp is None:
        return now + 1
    try:
        moment = dt.datetime.fromisoformat(timestamp)
    except ValueError:
        raise InvalidFieldError(["body", "timestamp"], "`timestamp` must be an ISO 8601 date and time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    until_ms = int(moment.timestamp() * 1000)
    if until_ms > now:
        raise InvalidFieldError(["body", "timestamp"], "`timestamp` must not be in the future")
    return until_ms


def _logged(row: LoggedRow, secret_members: frozenset[str]) -> LoggedRequest:
    log, job, headers, request, answer, policy = row
    headers = headers if job is not None else log.request_headers
    came_under = policy_of(log.content_policy, log.organization_id, has_headers=headers is not None)
    policy = strictest(policy or FULL, came_under)
    is_kept = (job is None or job.store is not False) and policy != NOTHING
    shows_bodies = is_kept and policy == FULL
    error = json.decode(log.error, type=StoredError) if log.error else None
    code = _code(log, job, error)
    response = answer if log.status == "succeeded" else _error_body(told_error(log, job), job)
    return LoggedRequest(
        timestamp=to_iso(log.created_ms),
        method=log.method,
        endpoint=log.endpoint.removeprefix("/v1/"),
        request_headers=(headers or "") if is_kept else "",
        request_body=_text(request if job is not None else log.request_body, secret_members) if shows_bodies else "",
        response_body=_text(response, secret_members) if shows_bodies else "",
        response_code=code,
        status_code=code,
        request_id=log.request_id,
        job_id=public_id(log.job_id) if log.job_id else None,
        model=log.model,
        latency_ms=log.latency_ms,
        prompt_tokens=log.prompt_tokens,
        completion_tokens=log.completion_tokens,
        cost=log.cost_micros / MICRO,
    )


def _error_body(told: bytes | None, job: JobRow | None) -> bytes | None:
    """Return an error in the form in which it was told; of a refusal, its text without the places."""
    if told is None:
        return None
    return error_body(ReplayedError(json.decode(told, type=StoredError)), OPENAI if job is None else job.dialect)


def _code(log: RequestLogRow, job: JobRow | None, error: StoredError | None) -> int | None:
    """Return the status the caller got, or would have got from this attempt; None while it runs."""
    if log.completed_ms is None:
        return None
    ended_the_job = job is None or job.finished_ms == log.completed_ms
    if error is not None and (ended_the_job or log.http_status is None):
        return error.status
    return log.http_status or 503  # its worker was lost


def _text(body: bytes | None, secret_members: frozenset[str]) -> str:
    if body is None:
        return ""
    body = redact_body(body, secret_members)
    text = body[:MAX_BODY_BYTES].decode(errors="replace")
    return text + "…" if len(body) > MAX_BODY_BYTES else text
