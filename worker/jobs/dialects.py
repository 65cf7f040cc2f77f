"""What a chat provider gets of a request in its dialect, and what the answer looks like in it."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import UNSET, Raw, json
from msgspec.structs import replace

from shared.clock import now_ms
from shared.dialects import INFLECTION, INFLECTION_LEGACY, NEC, OPENAI, VULTR, chat_defaults, rules_of
from shared.directory import Router
from shared.settings import Settings
from shared.usage.schemas import Usage
from worker.context import JobContext
from worker.jobs.upstream import MEMBERS, NULL

Members = dict[str, Any]
_CORE: Final = ("service_tier", "search_results", "prompt_logprobs", "kv_transfer_params")
_CHOICES: Final = json.Decoder(list[dict[str, Any]])
_NO_LOGPROB: Final = -9999.0
_NOTHING_CACHED: Final = Raw(b'{"cached_tokens":0}')
_REQUEST_ID: Final = b'"request_id"'


def complete_chat(settings: Settings, router: Router, dialect: str, request: bytes) -> bytes:
    """Return a chat with the parameters that it leaves to its router and its dialect."""
    rules = rules_of(dialect, settings.vultr_defaults)
    if not (rules.chat_defaults or router.default_parameters or rules.takes_only):
        return request
    given = {
        name: value
        for name, value in MEMBERS.decode(request).items()
        if bytes(value) != b"null" and (rules.takes_only is None or name in rules.takes_only)
    }
    defaults = chat_defaults(rules, router.default_parameters, given)
    return json.encode(given | defaults)


def shape_completion(ctx: JobContext, members: Members) -> Members:
    """Return the members of a whole answer as its dialect has them."""
    return _COMPLETIONS.get(ctx.message.dialect, _unchanged)(ctx, members)


def shape_chunk(ctx: JobContext, members: Members) -> Members:
    """Return the members of a chunk as its dialect has them."""
    return _CHUNKS.get(ctx.message.dialect, _unchanged)(ctx, members)


def _unchanged(_ctx: JobContext, members: Members) -> Members:
    return members


def _with_tier(_ctx: JobContext, members: Members) -> Members:
    """Add what every chunk of OpenAI's has; whole answers have it in all dialects."""
    return {"service_tier": NULL, "system_fingerprint": NULL, **members}


def _with_fingerprint(ctx: JobContext, members: Members) -> Members:
    """Add the fingerprint that NEC's clients read: that of the provider's row if the provider tells none."""
    if bytes(members.get("system_fingerprint", NULL)) != b"null":
        return members
    row = f"{ctx.provider.id}\n{ctx.provider.model_name}\n{ctx.provider.updated_ms}"
    return members | {"system_fingerprint": f"fp_{hashlib.sha256(row.encode()).hexdigest()[:10]}"}


def _with_call_ids(ctx: JobContext, members: Members) -> Members:
    """Give calls of tools the ids that clients of Vultr answer them by; in a stream, a call's first piece has it."""
    found = members["choices"]
    if isinstance(found, Raw) and b'"tool_calls"' not in bytes(found):
        return members
    choices = _choices(members)
    for choice in choices:
        message = choice.get("message") or choice.get("delta") or {}
        for place, call in enumerate(message.get("tool_calls") or ()):
            is_first = (call.get("function") or {}).get("name") is not None
            if is_first and not call.get("id"):
                call["id"] = f"call_{ctx.message.job_id}{choice.get('index', 0)}{call.get('index', place)}"
    return members | {"choices": choices}


def _to_inflection(ctx: JobContext, members: Members) -> Members:
    choices, usage = [_choice(choice) for choice in _choices(members)], _with_details(members["usage"])
    shaped = members | {"choices": choices, "usage": usage, "time_info": time_info(ctx)}
    shaped.setdefault("system_fingerprint", None)
    if _REQUEST_ID in ctx.request and (asked := MEMBERS.decode(ctx.request).get("request_id")) is not None:
        shaped["request_id"] = asked
    return shaped


def _to_inflection_chunk(ctx: JobContext, members: Members) -> Members:
    choices = _choices(members)
    for choice in choices:
        choice["delta"] = {name: value for name, value in choice.get("delta", {}).items() if value is not None}
        choice |= {name: choice.get(name) for name in ("logprobs", "finish_reason", "stop_reason")}
        _fill(choice["logprobs"])
    time = None if choices else time_info(ctx)
    usage = _with_details(members["usage"])
    return {"system_fingerprint": None, **members, "choices": choices, "usage": usage, "time_info": time}


def _with_details(usage: Any) -> Any:
    """Return a usage with the details that Inflection's clients read, also of a provider that told none."""
    if isinstance(usage, Usage) and usage.prompt_tokens_details is UNSET:
        return replace(usage, prompt_tokens_details=_NOTHING_CACHED)
    return usage


def _to_legacy(_ctx: JobContext, members: Members) -> Members:
    """Return the core members only."""
    choices = [_choice(choice) for choice in _choices(members)]
    for choice in choices:
        del choice["logprobs"], choice["stop_reason"]
    return {name: value for name, value in members.items() if name not in _CORE} | {"choices": choices}


def _to_legacy_chunk(_ctx: JobContext, members: Members) -> Members:
    choices = _choices(members)
    for choice in choices:
        choice["delta"] = {name: value for name, value in choice.get("delta", {}).items() if value is not None}
        choice.pop("logprobs", None)
        choice.pop("stop_reason", None)
    return {name: value for name, value in members.items() if name not in _CORE} | {"choices": choices}


def _choices(members: Members) -> list[dict[str, Any]]:
    found = members["choices"]
    return _CHOICES.decode(found) if isinstance(found, Raw) else [dict(choice) for choice in found]


def _fill(logprobs: Any) -> None:
    """Give tokens without a probability the one that Inflection's clients expect."""
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    for token in _objects(found):
        for one in (token, *_objects(token.get("top_logprobs"))):
            if one.get("logprob") is None:
                one["logprob"] = _NO_LOGPROB


def _objects(found: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; whatever else a provider sends there is not looked at."""
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice with all members that Inflection's clients read."""
    message = {"content": None, "reasoning_content": None, **choice["message"]}
    message["tool_calls"] = message.get("tool_calls") or []
    _fill(choice.get("logprobs"))
    return {
        **choice,
        "message": message,
        "logprobs": choice.get("logprobs"),
        "finish_reason": choice.get("finish_reason"),
        "stop_reason": choice.get("stop_reason"),
    }


def time_info(ctx: JobContext) -> dict[str, float | None]:
    """Return how long a job waited, until when its first token came, and how long it took: seconds."""
    begun, first = ctx.message.created_ms, ctx.first_token_ms
    return {
        "queue": (ctx.begun_ms - begun) / 1000,
        "first_token": None if first is None else (first - begun) / 1000,
        "total": (now_ms() - begun) / 1000,
    }


_Shape = Callable[[JobContext, Members], Members]
_COMPLETIONS: Final[Mapping[str, _Shape]] = {
    VULTR: _with_call_ids, NEC: _with_fingerprint, INFLECTION: _to_inflection, INFLECTION_LEGACY: _to_legacy,
}  # fmt: skip
_CHUNKS: Final[Mapping[str, _Shape]] = {
    OPENAI: _with_tier, VULTR: _with_call_ids, NEC: _with_fingerprint,
    INFLECTION: _to_inflection_chunk, INFLECTION_LEGACY: _to_legacy_chunk,
}  # fmt: skip
