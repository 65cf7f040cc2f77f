"""Parameters that the wire format of a provider does not have.

What only helps is dropped and named with the job.  What would change the meaning of the answer, and anything else if
the caller asked for `Prefer: handling=strict`, keeps the request from that provider; if all of them lack it, the job
fails.  What a format has is said in its module, see `Adapter.parameters`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, json

from shared.chat.retrieved import MEMBER as RETRIEVED
from shared.errors import StoredError
from shared.jobs.messages import JobMessage
from shared.jobs.schemas import (
    AUDIO_SPEECH,
    AUDIO_TRANSCRIPTION,
    CHAT_COMPLETION,
    COMPLETION,
    EMBEDDING,
    OCR,
    RERANK,
)
from worker.context import Runtime
from worker.jobs.upstream import MALFORMED, MEMBERS, OF_SLUICE
from worker.providers.base import Operation
from worker.takeover import read_request

OPERATIONS: Final[Mapping[str, Operation]] = {
    CHAT_COMPLETION: "chat", COMPLETION: "completion", EMBEDDING: "embedding", RERANK: "rerank",
    AUDIO_TRANSCRIPTION: "transcription", AUDIO_SPEECH: "speech", OCR: "ocr",
}  # fmt: skip
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
_SHOWN: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_MOST_SHOWN: Final = 50


def dropped_params(runtime: Runtime, kind: str, provider_type: str, request: bytes) -> list[str]:
    """Return the parameters of a request that a provider of this type does not get, as far as they can be shown."""
    operation = OPERATIONS.get(kind)
    lacking = {} if operation is None else _lacking(runtime, operation, provider_type, request)
    return [name for name in lacking if _SHOWN.fullmatch(name)][:_MOST_SHOWN]


async def unfit_providers(runtime: Runtime, message: JobMessage) -> dict[int, str]:
    """Return the providers by id that lack a parameter which must not be dropped, each with its name."""
    router = await runtime.directory.find_router_by_id(message.router_id)
    operation = OPERATIONS.get(message.kind)
    if router is None or operation is None:
        return {}
    left = runtime.routing.candidates(router, set())
    left = [one for one in left if operation in runtime.adapters[one.type].parameters]
    if not left:
        return {}
    request = message.request if message.request is not None else await read_request(runtime, message.job_id)
    unfit: dict[int, str] = {}
    for provider in left:
        lacking = _lacking(runtime, operation, provider.type, request)
        names = [name for name, value in lacking.items() if message.strict or _is_binding(operation, name, value)]
        if names:
            unfit[provider.id] = names[0]
    return unfit


def unsupported_parameter(name: str) -> StoredError:
    """Return the error of a job that no provider can take."""
    shown = name if _SHOWN.fullmatch(name) else None
    return StoredError(
        message=f"The model does not take the parameter `{shown or '?'}`.", type="invalid_request_error", param=shown,
        code="unsupported_parameter", status=400,
    )  # fmt: skip


def _lacking(runtime: Runtime, operation: Operation, provider_type: str, request: bytes) -> dict[str, Raw]:
    """Return the members that the provider's format does not have, in the order of the request."""
    taken = runtime.adapters[provider_type].parameters.get(operation)
    if taken is None:
        return {}
    try:
        members = MEMBERS.decode(request)
    except MALFORMED:  # too deep to be read; the attempt says so
        return {}
    return {name: value for name, value in members.items() if name not in taken | _OWN and bytes(value) != b"null"}


def _is_binding(operation: Operation, name: str, value: Raw) -> bool:
    if operation != "chat" or name not in _BINDING:
        return False
    try:
        return bool(json.decode(value) != _BINDING[name])
    except (msgspec.DecodeError, RecursionError):
        return True
