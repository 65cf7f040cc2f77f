"""Note inference requests that were refused before a job existed; everything else in the request log is a job's."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from msgspec import json

from api.call import Call
from api.client_address import address_of
from shared.clock import now_ms
from shared.errors import ApiError
from shared.group_commit.units import CommitError
from shared.ids import new_ulid
from shared.request_logs.redaction import FULL, NOTHING, clean, redact_body, redact_headers
from shared.request_logs.statements import NewRefusal, insert_refusal
from shared.tracing.headers import trace_id_of

_UNDER_PRESSURE: Final = frozenset({"storage_unavailable", "overloaded"})
MAX_LOGGED_BYTES: Final = 64 * 1024


async def log_refusal(call: Call, endpoint: str, error: ApiError) -> None:
    """Insert one row; a database that is away, or does not keep up, is left alone."""
    if error.code in _UNDER_PRESSURE:
        return
    latency_ms = int((time.perf_counter() - call.started) * 1000)
    now = now_ms()
    caller = call.caller
    policy = caller.content_policy if caller else FULL
    refusal = NewRefusal(
        id=new_ulid(),
        created_ms=now - latency_ms,
        completed_ms=now,
        request_id=call.request_id,
        method=call.request.method,
        endpoint=endpoint,
        http_status=error.http_status,
        model=None if call.model is None else call.model.replace("\x00", "")[:255],
        key_id=caller.key_id if caller else None,
        user_id=caller.user_id if caller else None,
        organization_id=caller.organization_id if caller else None,
        client_address=address_of(call.request),
        user_agent=None if policy == NOTHING else clean(call.request.headers.get("User-Agent", "")) or None,
        latency_ms=latency_ms,
        error=json.encode(error.stored()).decode().replace("\\u0000", ""),
        error_code=error.code,
        retry_count=retry_count(call),
        trace_id=trace_id_of(carried_trace(call).get("traceparent")),
        content_policy=policy,
        request_headers=None if policy == NOTHING else redact_headers(call.request.headers.items()),
        request_body=_body(call) if caller and policy == FULL else None,
    )
    with suppress(CommitError):
        await call.state.writer.execute_many((insert_refusal(refusal),))


def retry_count(call: Call) -> int:
    """Return how often a stock client has repeated this request."""
    text = call.request.headers.get("x-stainless-retry-count", "0")
    return int(text) if text.isdecimal() and len(text) < 4 else 0


def carried_trace(call: Call) -> Mapping[str, str]:
    """Return the headers of the span that is current, or without a tracer those of the caller."""
    return call.request.headers if call.state.tracer is None else call.state.tracer.carried()


def _body(call: Call) -> bytes:
    """Return as much of the body as is kept, without what the operator wants to be left out."""
    return redact_body(call.body[:MAX_LOGGED_BYTES], call.state.settings.secret_members)
