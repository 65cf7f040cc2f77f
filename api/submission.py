"""From an inference request to the job that is made of it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from msgspec import Struct, json

from api.access import check_access
from api.call import Call, Draft
from api.client_address import address_of
from api.keys import Caller
from api.limits import Estimate
from api.refusals import carried_trace, retry_count
from api.state import State
from shared.admission.records import Admission
from shared.clock import now_ms
from shared.directory import Router
from shared.errors import ModelNotFoundError, WrongModelTypeError
from shared.jobs.schemas import QUEUED
from shared.jobs.statements import NewJob
from shared.request_logs.redaction import NOTHING, clean, policy_of, redact_headers, redact_metadata, strictest
from shared.tracing.headers import trace_id_of

MAX_ATTEMPTS: Final = 3
_TOKENS_PER_TURN: Final = 1000
_MAX_TURNS: Final = 1000.0
"""No job uses up more of its tenant's share at once, whatever it asks for."""


class Submission(Struct, frozen=True, kw_only=True):
    """What an inference route knows of the job it wants; the rest is the same for all of them."""

    kind: str
    endpoint: str
    router: Router
    model: str
    """As called."""
    stream: bool = False
    store: bool | None = None
    metadata: dict[str, str] | None = None
    end_user: str | None = None
    estimate: Estimate
    """What it may use."""
    dialect: str | None = None
    """None: that of the call."""
    priority: int | None = None
    """None: the user's."""
    timeout_s: int | None = None
    """Execution time; None: the usual one."""
    client_request_id: str | None = None
    """Of the body; None: that of the headers."""
    is_flex: bool = False
    """The caller waits, but is not in a hurry."""
    background: bool = False
    """It runs to its end, whether anybody reads it or not, and may be followed meanwhile."""
    is_held: bool = False
    """Scanned pages are read first, see `api.scans`."""
    search: "Callable[[Call], Awaitable[Submission]] | None" = None
    """Looks up what the model is to be given, which takes jobs of its own, and returns the submission with it.

    Awaited when it is known that no earlier job has the answer.
    """


class Origin(Struct, frozen=True, kw_only=True):
    """Where a request came from, as its jobs keep it."""

    client_request_id: str | None
    traceparent: str | None
    tracestate: str | None = None
    client_address: str | None
    user_agent: str | None
    retry_count: int
    request_headers: str | None
    content_policy: str | None = None
    """Of the caller's organization; None where it was not kept."""
    dialect: str | None = None
    """Of the call; None where it was not kept."""

    @property
    def trace(self) -> dict[str, Any]:
        """Return what a job keeps of the trace."""
        trace_id = trace_id_of(self.traceparent)
        return {"trace_id": trace_id, "traceparent": self.traceparent, "tracestate": self.tracestate}


def origin_of(call: Call) -> Origin:
    """Return where a call comes from; of its trace, the span that is current."""
    request, trace = call.request, carried_trace(call)
    shows_headers = call.caller.content_policy != NOTHING
    return Origin(
        client_request_id=_header(request, "x-client-request-id"),
        traceparent=_clean(trace.get("traceparent")),
        tracestate=_clean(trace.get("tracestate")),
        client_address=address_of(request),
        user_agent=_header(request, "User-Agent") if shows_headers else None,
        retry_count=retry_count(call),
        request_headers=redact_headers(request.headers.items()) if shows_headers else None,
        content_policy=call.caller.content_policy,
        dialect=call.dialect,
    )


def _header(request: web.Request, name: str) -> str | None:
    return _clean(request.headers.get(name))


def _clean(value: str | None) -> str | None:
    return None if value is None else clean(value)


async def find_router(draft: Draft, model: str, types: frozenset[str]) -> Router:
    """Return the router the caller asks for; raises the errors of a model he may not use."""
    draft.model = model
    directory = draft.state.directory
    router = directory.peek(model)
    if router is None or not router.providers:
        router = await directory.find_router(model)
    if router is None or not router.providers:
        raise ModelNotFoundError
    check_access(draft.caller, router.id)
    if router.type not in types:
        raise WrongModelTypeError
    return router


def new_job(
    draft: Draft, origin: Origin, submission: Submission, job_id: str, admission: Admission | None, band: int
) -> NewJob:
    """Return the job of a submission, with what is usual for what nobody asked for."""
    settings, caller, now = draft.state.settings, draft.caller, now_ms()
    wanted = caller.priority if submission.priority is None else submission.priority
    return NewJob(
        id=job_id,
        kind=submission.kind,
        endpoint=submission.endpoint,
        dialect=submission.dialect or draft.dialect,
        shard=draft.state.shard,
        status=QUEUED,
        band=band,
        stream=submission.stream,
        store=submission.store,
        background=submission.background,
        user_id=caller.user_id,
        organization_id=caller.organization_id,
        key_id=caller.key_id,
        router_id=submission.router.id,
        router_name=submission.router.name,
        model=submission.model,
        price_prompt=str(submission.router.price_prompt),
        price_completion=str(submission.router.price_completion),
        priority=min(wanted, settings.routing_max_priority),
        cost_estimate=_turns(submission.estimate),
        metadata=json.encode(submission.metadata).decode() if submission.metadata else None,
        log_metadata=_log_metadata(submission.metadata or {}, settings.secret_members),
        end_user=submission.end_user,
        created_ms=now,
        not_before_ms=None,
        expires_ms=now + settings.start_timeout_s * 1000,
        timeout_s=submission.timeout_s or settings.job_timeout_s,
        result_ttl_s=settings.unstored_result_ttl_s if submission.store is False else settings.result_ttl_s,
        max_attempts=_most_attempts(draft.state, submission.router),
        on_worker_lost="retry",
        cancel_when_unread=False,
        request_id=draft.request_id,
        client_request_id=submission.client_request_id or origin.client_request_id,
        **origin.trace,
        client_address=origin.client_address,
        user_agent=origin.user_agent,
        retry_count=origin.retry_count,
        request_headers=origin.request_headers,
        content_policy=strictest(policy_now(caller, origin), draft.came_under),
        inbox=None,
        admission=None if admission is None else admission.encode(),
        request=draft.body,
    )


def _log_metadata(metadata: dict[str, str], names: frozenset[str]) -> str | None:
    return json.encode(redact_metadata(metadata, names)).decode() if names.intersection(metadata) else None


def _turns(estimate: Estimate) -> float:
    tokens = estimate.prompt_tokens + estimate.output_tokens
    return min(max(tokens / _TOKENS_PER_TURN, 0.01), _MAX_TURNS)


def policy_now(caller: Caller, origin: Origin) -> str:
    """Return the stricter one of the policy of now and that under which a request came in."""
    has_headers = origin.request_headers is not None
    came_under = policy_of(origin.content_policy, caller.organization_id, has_headers=has_headers)
    return strictest(caller.content_policy, came_under)


def _most_attempts(state: State, router: Router) -> int:
    """Return enough attempts that each provider gets one, those of the fallback router, too."""
    fallback = None if router.fallback_id is None else state.directory.peek_by_id(router.fallback_id)
    return max(MAX_ATTEMPTS, len(router.providers) + (0 if fallback is None else len(fallback.providers)))
