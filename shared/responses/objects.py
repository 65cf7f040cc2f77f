"""The response object in any of its states, and the events that follow from it."""

from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType, json

from shared.errors import StoredError
from shared.responses.schemas import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ReasoningOptions,
    Response,
    ResponseError,
    ResponseRequest,
    ResponseStatus,
    ResponseUsage,
    Tool,
)
from shared.unreadable import UNREADABLE
from shared.usage.schemas import Usage

_ABOUT_THE_REQUEST: Final = range(400, 429)
CANCELLED_CODE: Final = "job_cancelled"


class _Details(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


def to_response(  # noqa: PLR0913  # the parts of a response
    request: ResponseRequest, *, response_id: str, created_at: int, model: str, status: ResponseStatus,
    completed_at: int | None = None, output: list[dict[str, Any]] | None = None, usage: Usage | None = None,
    error: StoredError | None = None, incomplete_reason: str | None = None,
) -> Response:  # fmt: skip
    """Return the response to a request; what the request left open has its default."""
    return Response(
        id=response_id, created_at=created_at, completed_at=completed_at, status=status, model=model,
        error=None if error is None or error.code == CANCELLED_CODE else to_response_error(error),
        incomplete_details=None if incomplete_reason is None else IncompleteDetails(reason=incomplete_reason),
        output=output or [],
        usage=None if usage is None else to_response_usage(usage),
        background=bool(request.background),
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=request.reasoning or ReasoningOptions(),
        safety_identifier=request.safety_identifier,
        service_tier=request.service_tier or "default",
        store=request.store is not False,
        temperature=1.0 if request.temperature is None else request.temperature,
        text=_text_options(request),
        tool_choice=request.tool_choice or "auto",
        tools=request.tools or list[Tool](),
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        truncation=request.truncation or "disabled",
        user=request.user,
        metadata=request.metadata or {},
    )  # fmt: skip


def _text_options(request: ResponseRequest) -> dict[str, Any]:
    found = None if request.text is None else request.text.format
    members: dict[str, Any] = {"type": "text"} if found is None else {"type": found.type}
    if found is not None and found.type == "json_schema":
        members |= {
            "name": found.name, "schema": found.schema, "description": found.description, "strict": found.strict,
        }  # fmt: skip
    verbosity = None if request.text is None else request.text.verbosity
    return {"format": members} | ({} if verbosity is None else {"verbosity": verbosity})


def to_response_usage(usage: Usage) -> ResponseUsage:
    """Return the usage of a job in the words of this API."""
    read, written = _details(usage.prompt_tokens_details), _details(usage.completion_tokens_details)
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(
            cached_tokens=read.cached_tokens or 0, cache_write_tokens=read.cache_write_tokens or 0
        ),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=written.reasoning_tokens or 0),
        total_tokens=usage.total_tokens,
        cost=usage.cost,
        carbon=usage.carbon,
        impacts=usage.impacts,
        requests=usage.requests,
        cache=usage.cache,
    )


def _details(raw: Raw | UnsetType) -> _Details:
    try:
        return (None if raw is UNSET else json.decode(raw, type=_Details | None)) or _Details()
    except UNREADABLE:
        return _Details()


def to_response_error(error: StoredError) -> ResponseError:
    """Return a stored error with one of OpenAI's codes; Sluice's own one is the reason."""
    code = "server_error"
    if error.status == 429:
        code = "rate_limit_exceeded"
    elif error.status in _ABOUT_THE_REQUEST:
        code = "invalid_prompt"
    return ResponseError(code=code, message=error.message, reason=error.code)


def first_events(queued: Response) -> list[bytes]:
    """Return the events before the log, of a response that was just accepted."""
    kinds = ["response.created", "response.queued"] if queued.background else ["response.created"]
    return [_event(kind, number, response=queued) for number, kind in enumerate(kinds)]


class _Over(Struct):
    status: ResponseStatus
    error: ResponseError | None


_OVER: Final = json.Decoder(_Over)


def last_events(response: bytes, number: int, *, has_output: bool) -> list[bytes]:
    """Return the events behind the log, the first of which has this number; an error in the middle comes first."""
    over, events = _OVER.decode(response), []
    if over.status == "failed" and over.error is not None and has_output:
        events.append(error_event(number, over.error.message, over.error.code))
    status = over.status if over.status in ("completed", "incomplete") else "failed"
    return [*events, _event(f"response.{status}", number + len(events), response=Raw(response))]


def error_event(number: int, message: str, code: str = "server_error") -> bytes:
    """Return the event of an error."""
    return _event("error", number, code=code, message=message, param=None)


def _event(kind: str, number: int, **members: Any) -> bytes:
    return json.encode({"type": kind, "sequence_number": number, **members})
