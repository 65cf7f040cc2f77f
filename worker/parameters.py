"""Parameters that a provider does not have, or must not get.

What only helps is dropped and named with the job.  What would change the meaning of the answer, and anything else if
the caller asked for `Prefer: handling=strict`, keeps the request from that provider, and so does what its operator
denies it; if all of them lack it, the job fails.  What a provider has of a chat is said by its parameter set; of other
operations by the module of its format, see `Adapter.parameters`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw, json

from shared.chat.parameter_sets import ALL, PARAMETER_SETS
from shared.chat.plain_messages import find_strange
from shared.chat.retrieved import MEMBER as RETRIEVED
from shared.dialects import RULES
from shared.directory import Provider
from shared.errors import StoredError
from shared.facades.inflection.inference import to_chat
from shared.facades.inflection.schemas import InferenceRequest
from shared.jobs.messages import JobMessage
from shared.jobs.schemas import (
    AUDIO_SPEECH,
    AUDIO_TRANSCRIPTION,
    CHAT_COMPLETION,
    COMPLETION,
    EMBEDDING,
    INFERENCE,
    OCR,
    RERANK,
)
from shared.unreadable import UNREADABLE
from worker.context import Runtime
from worker.jobs.upstream import MALFORMED, MEMBERS, OF_SLUICE
from worker.providers.base import Operation
from worker.takeover import read_request

OPERATIONS: Final[Mapping[str, Operation]] = {
    CHAT_COMPLETION: "chat", INFERENCE: "chat", COMPLETION: "completion", EMBEDDING: "embedding", RERANK: "rerank",
    AUDIO_TRANSCRIPTION: "transcription", AUDIO_SPEECH: "speech", OCR: "ocr",
}  # fmt: skip
"""Of kinds whose request goes on to the provider."""
_OWN: Final = frozenset(
    {"model", "stream", "stream_options", "metadata", "store", "user", "service_tier", RETRIEVED, *OF_SLUICE}
)
"""Sluice itself does what these ask for."""
_BINDING: Final[Mapping[str, Any]] = {
    "add_generation_prompt": True, "allowed_token_ids": None, "bad_words": [], "best_of": 1, "chat_template": None,
    "continue_final_message": False, "documents": None, "echo": False, "guided_choice": None, "guided_grammar": None,
    "guided_json": None, "guided_regex": None, "ignore_eos": False, "include_stop_str_in_output": False,
    "kv_transfer_params": None, "logits_processors": None, "logprobs": False, "min_tokens": 0,
    "mm_processor_kwargs": None, "prompt_logprobs": None, "response_format": None, "stop_token_ids": [],
    "structural_tag": None, "tool_choice": None, "tools": None, "top_logprobs": 0, "truncate_prompt_tokens": None,
    "use_beam_search": False, "vllm_xargs": None,
}  # fmt: skip
"""Without these a chat's answer is another one; with this value they say nothing."""
_INFERENCE: Final = json.Decoder(InferenceRequest, strict=False)
_CONTINUOUS: Final = "stream_options.continuous_usage_stats"
_SHOWN: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_MOST_SHOWN: Final = 50


def dropped_params(runtime: Runtime, message: JobMessage, provider: Provider, request: bytes) -> list[str]:
    """Return the parameters of a request that a provider does not get, as far as they can be shown."""
    operation = OPERATIONS.get(message.kind)
    if operation is None or _takes_everything(runtime, operation, provider):
        return []
    lacking = _lacking(runtime, operation, provider, _members(message, request))
    return [name for name in lacking if _SHOWN.fullmatch(name)][:_MOST_SHOWN]


async def unfit_providers(runtime: Runtime, message: JobMessage) -> dict[int, StoredError]:
    """Return the providers by id that must not get a request, each with what the caller is told if all are."""
    router = await runtime.directory.find_router_by_id(message.router_id)
    operation = OPERATIONS.get(message.kind)
    if router is None or operation is None:
        return {}
    left = runtime.routing.candidates(router, set())
    left = [one for one in left if one.denied_params or not _takes_everything(runtime, operation, one)]
    if not left:
        return {}
    request = message.request if message.request is not None else await read_request(runtime, message.job_id)
    members = _members(message, request)
    found = {one.id: _objection(runtime, message, operation, one, members) for one in left}
    return {provider_id: error for provider_id, error in found.items() if error is not None}


def _takes_everything(runtime: Runtime, operation: Operation, provider: Provider) -> bool:
    if operation == "chat":
        return provider.parameter_set == ALL
    return operation not in runtime.adapters[provider.type].parameters


def _members(message: JobMessage, request: bytes) -> dict[str, Raw]:
    """Return the members of what a provider is asked; those that the dialect does not use are none."""
    taken = RULES[message.dialect].takes_only
    try:
        if message.kind == INFERENCE:
            request = json.encode(to_chat(_INFERENCE.decode(request)))
        members = MEMBERS.decode(request)
    except MALFORMED:  # too deep to be read; the attempt says so
        return {}
    return {
        name: value
        for name, value in members.items()
        if bytes(value) != b"null" and (taken is None or name in taken)
    }  # fmt: skip


def _objection(
    runtime: Runtime, message: JobMessage, operation: Operation, provider: Provider, members: Mapping[str, Raw]
) -> StoredError | None:
    """Return why a provider must not get these members; None if it may."""
    if denied := sorted(provider.denied_params & members.keys()):
        return StoredError(
            message=f"The parameter `{denied[0]}` is not allowed.", type="permission_error", param=denied[0],
            code="parameter_not_allowed", status=403,
        )  # fmt: skip
    lacking = _lacking(runtime, operation, provider, members)
    for name, value in lacking.items():
        if message.strict or _is_binding(operation, name, value):
            return _unsupported("unsupported_parameter", name if _SHOWN.fullmatch(name) else None)
    if operation == "chat" and provider.parameter_set != ALL:
        return _chat_objection(provider, members)
    return None


def _chat_objection(provider: Provider, members: Mapping[str, Raw]) -> StoredError | None:
    """Return why a chat cannot be said to a provider whatever is dropped."""
    try:
        strange = find_strange(json.decode(members["messages"]), PARAMETER_SETS[provider.parameter_set])
        wanted = json.decode(members["response_format"]) if "response_format" in members else {}
    except (*MALFORMED, AttributeError):  # the attempt says so
        return None
    if strange is not None:
        return _unsupported("unsupported_value", strange)
    return _unsupported("unsupported_parameter", "response_format") if wanted.get("type") == "structural_tag" else None


def _unsupported(code: str, name: str | None) -> StoredError:
    kind = "value of" if code == "unsupported_value" else "parameter"
    return StoredError(
        message=f"The model does not take the {kind} `{name or '?'}`.", type="invalid_request_error", param=name,
        code=code, status=400,
    )  # fmt: skip


def _lacking(runtime: Runtime, operation: Operation, provider: Provider, members: Mapping[str, Raw]) -> dict[str, Raw]:
    """Return the members that the provider does not have, in the order of the request."""
    if _takes_everything(runtime, operation, provider):
        return {}
    if operation != "chat":
        taken = runtime.adapters[provider.type].parameters[operation] | _OWN
        return {name: value for name, value in members.items() if name not in taken}
    taken = PARAMETER_SETS[provider.parameter_set].taken | _OWN
    lacking = {name: value for name, value in members.items() if name not in taken}
    if b'"continuous_usage_stats"' in bytes(members.get("stream_options", Raw(b""))):
        lacking[_CONTINUOUS] = Raw(b"true")
    return lacking


def _is_binding(operation: Operation, name: str, value: Raw) -> bool:
    if operation != "chat" or name not in _BINDING:
        return False
    try:
        return bool(json.decode(value) != _BINDING[name])
    except UNREADABLE:
        return True
