"""From a chat in any dialect to the job that is made of it."""

from math import ceil
from typing import Any, Final

from msgspec import json

from api.call import Draft
from api.limits import Estimate
from api.own_files import check_named_files
from api.submission import Submission, find_router
from shared.chat.checks import ToolsNotSupportedError, UnsupportedParameterError, check_chat
from shared.chat.estimates import estimate_prompt
from shared.chat.file_parts import IN_BODY
from shared.chat.messages import Form, decode_messages, link_tool_calls, to_messages, with_messages
from shared.chat.schemas import ChatCompletionRequest, Message
from shared.dialects import Rules, chat_defaults, rules_of
from shared.directory import Router
from shared.errors import PermissionDeniedError, UnprocessableEntityError
from shared.files.errors import UploadGoneError, UploadNotFoundError
from shared.jobs.schemas import CHAT_COMPLETION
from shared.models.schemas import CHAT_TYPES
from shared.search.schemas import SEARCH_TOOL

CHAT_ERRORS: Final = (UnsupportedParameterError, ToolsNotSupportedError, UploadNotFoundError, UploadGoneError)
"""Of routes that take chats, beside those of all that make jobs."""
_LIMITS: Final = ("max_tokens", "max_completion_tokens")


async def chat_submission(
    draft: Draft, body: ChatCompletionRequest, path: str, kind: str = CHAT_COMPLETION
) -> Submission:
    """Return what a chat asks for; messages that came as a text are put into the stored request as a list."""
    rules = rules_of(draft.dialect, draft.state.settings.vultr_defaults)
    messages, form = _read_messages(draft, body, rules)
    check_chat(body, messages, rules)
    draft.headers.setdefault("x-sluice-messages-form", form)
    model = model_of(body.model, draft.state.settings.default_chat_model)
    router = await find_router(draft, model, CHAT_TYPES)
    if router.has_tools is False and any(tool.get("type") != SEARCH_TOOL for tool in body.tools or ()):
        raise ToolsNotSupportedError
    if body.request_id is not None:
        draft.headers["x-client-request-id"] = body.request_id
    return Submission(
        kind=kind,
        endpoint=path,
        router=router,
        model=model,
        stream=bool(body.stream),
        store=body.store,
        metadata=body.metadata,
        end_user=body.user,
        estimate=_estimate(draft, body, messages, router, rules, await _files_bytes(draft)),
        is_flex=body.service_tier == "flex",
        priority=priority_of(draft, body.priority),
        timeout_s=timeout_of(draft, body.timeout_sec),
        client_request_id=body.request_id,
    )


def model_of(model: str | None, default: str | None) -> str:
    """Return the model of a request; raises `UnprocessableEntityError` if it names none and there is no usual one."""
    if model or default:
        return model or str(default)
    raise UnprocessableEntityError(["body", "model"], "Object missing required field `model`", "missing")


def priority_of(draft: Draft, lower: int | None) -> int | None:
    """Return the priority of a job that asks to run later; raises `PermissionDeniedError` if it asks to run earlier."""
    if not lower:
        return None
    if lower < 0:
        raise PermissionDeniedError("`priority` must not be less than 0.", param="priority")
    return max(draft.caller.priority - lower, 0)


def timeout_of(draft: Draft, seconds: float | None) -> int | None:
    """Return the execution time that a request asks for, in whole seconds."""
    return None if seconds is None else min(ceil(seconds), draft.state.settings.max_execution_s)


def _read_messages(draft: Draft, body: ChatCompletionRequest, rules: Rules) -> tuple[list[Message], Form]:
    if isinstance(body.messages, list) and not (rules.links_tool_calls and _has_calls(body.messages)):
        return body.messages, "array"
    raw = json.decode(draft.body, type=dict[str, Any])["messages"]
    messages, form = to_messages(raw)
    is_linked = rules.links_tool_calls and link_tool_calls(messages)
    found: list[Message] = decode_messages(messages, list[Message])
    if form != "array" or is_linked or isinstance(raw, dict):
        draft.body = with_messages(draft.body, messages)
    body.messages = found
    return found, form


def _has_calls(messages: list[Message]) -> bool:
    return any(message.role == "tool" or message.tool_calls for message in messages)


async def _files_bytes(draft: Draft) -> int:
    """Return how large the files are that a chat names; raises the errors of those that cannot be used."""
    if IN_BODY not in draft.body:
        return 0
    messages = json.decode(draft.body, type=dict[str, Any]).get("messages")
    return await check_named_files(draft, messages) if isinstance(messages, list) else 0


def _usual_tokens(body: ChatCompletionRequest, router: Router, rules: Rules) -> int:
    given = [name for name in _LIMITS if getattr(body, name) is not None]
    tokens: int = chat_defaults(rules, router.default_parameters, given).get("max_tokens", 0)
    return tokens


def _estimate(
    draft: Draft, body: ChatCompletionRequest, messages: list[Message], router: Router, rules: Rules, files_bytes: int
) -> Estimate:
    answers = body.n or 1
    output_tokens = (body.max_completion_tokens or body.max_tokens or _usual_tokens(body, router, rules)) * answers
    return Estimate(
        prompt_tokens=estimate_prompt(body, messages), output_tokens=output_tokens, answers=answers,
        prompts=answers, repeated_bytes=len(draft.body) * (answers - 1),  # a provider may give one answer per call
        file_tokens=files_bytes * answers,
    )  # fmt: skip
