"""Job kind `chat.completion`: call a chat provider, whole or as a stream, and give its answer our id, model and usage.

Documents are rewritten member by member without being decoded as a whole: what a provider adds to its answers reaches
the caller unchanged.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, json

from shared.chat.schemas import AssistantMessage, Choice, ChunkChoice
from shared.clock import now_ms
from shared.jobs.schemas import alias_of
from shared.request_logs.redaction import clean
from shared.tokens import count_message_tokens, count_tokens
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, TokenCount
from worker.providers.base import ProviderCall, ProviderError

_NULL, _EMPTY_LIST = Raw(b"null"), Raw(b"[]")
_COMPLETION, _CHUNK = Raw(b'"chat.completion"'), Raw(b'"chat.completion.chunk"')
_BYTES_PER_TOKEN = 4
_MOST_TOKENS = 2**40
"""No provider means more; the ledger could not hold it."""
_MEMBERS = json.Decoder(dict[str, Raw])
_CHOICES = json.Decoder(list[Choice])
_CHUNK_CHOICES = json.Decoder(list[ChunkChoice])


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _UpstreamUsage(Struct):
    """What providers report; details are kept as they are."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Raw = _NULL
    completion_tokens_details: Raw = _NULL


_USAGE = json.Decoder(_UpstreamUsage | None)
_DETAILS = json.Decoder(_Details | None)


async def run_chat(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    adapter = ctx.runtime.adapters[ctx.provider.type]
    call = ProviderCall(
        provider=ctx.provider,
        operation="chat",
        body=to_upstream(ctx.request, ctx.provider.model_name, is_stream=ctx.message.stream),
        attempt=ctx.attempt,
        traceparent=ctx.message.traceparent,
    )
    if ctx.message.stream:
        return await _run_stream(ctx, call)
    reply = await adapter.complete(call)
    try:
        members = _MEMBERS.decode(reply.body)
        choices = _CHOICES.decode(members["choices"])
        usage = _USAGE.decode(members.get("usage", _NULL))
    except (msgspec.DecodeError, KeyError, RecursionError) as error:
        raise ProviderError(f"The provider sent a malformed answer: {error}", reason="malformed") from error
    texts = [choice.message for choice in choices]
    tokens = _to_token_count(usage) or _estimate(ctx.request, texts)
    return Produced(
        tokens=tokens,
        render=lambda usage: _render(ctx, members, usage),
        provider_request_id=reply.request_id and clean(reply.request_id),
    )


def to_upstream(request: bytes, model_name: str, *, is_stream: bool) -> bytes:
    """Return the caller's body with the provider's model name; a stream always asks for its usage."""
    members = _MEMBERS.decode(request)
    members["model"] = Raw(json.encode(model_name))
    if bytes(members.get("seed", _NULL)) == b"-1":
        del members["seed"]  # means a random one, which providers spell by leaving it out
    if is_stream:
        members["stream"] = Raw(b"true")
        options = _MEMBERS.decode(members.get("stream_options", _NULL)) if _has(members, "stream_options") else {}
        members["stream_options"] = Raw(json.encode(options | {"include_usage": Raw(b"true")}))
    return json.encode(members)


def _has(members: dict[str, Raw], name: str) -> bool:
    return name in members and bytes(members[name]) != b"null"


def _render(ctx: JobContext, members: dict[str, Raw], usage: Usage) -> bytes:
    """Return the completion: what the provider sent, with our own id, time, model and usage."""
    return json.encode(
        {
            "service_tier": _NULL,
            "system_fingerprint": _NULL,
            "search_results": _EMPTY_LIST,
            **members,
            **_identity(ctx),
            "object": _COMPLETION,
            "usage": usage,
        }
    )


def _identity(ctx: JobContext) -> dict[str, Any]:
    message = ctx.message
    return {
        "id": alias_of(message.kind, message.job_id),
        "created": message.created_ms // 1000,
        "model": message.model,
    }


_RARE_TEXTS = ("refusal", "reasoning_content", "reasoning")


class _Answer:
    """One choice of a streamed answer, put together from its deltas."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None
        self.logprobs: dict[str, list[Any]] = {}

    def add(self, choice: ChunkChoice) -> bool:
        """Take one piece; returns whether it has content, reasoning or a tool call."""
        delta = choice.delta
        has_output = False
        if delta.content:
            self.texts.setdefault("content", []).append(delta.content)
            has_output = True
        for name in _RARE_TEXTS:
            if text := getattr(delta, name):
                self.texts.setdefault(name, []).append(text)
                has_output = True
        for call in delta.tool_calls or ():
            has_output = True
            known = self.calls.setdefault(
                call.index or 0, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
            )
            known["id"] = call.id or known["id"]
            if call.function is not None:
                known["function"]["name"] += call.function.name or ""
                known["function"]["arguments"] += call.function.arguments or ""
        self.finish_reason = choice.finish_reason or self.finish_reason
        if isinstance(choice.logprobs, dict):
            for name, entries in choice.logprobs.items():
                self.logprobs.setdefault(name, []).extend(entries or ())
        return has_output

    def message(self) -> dict[str, Any]:
        """Return the message as an unstreamed answer has it."""
        texts = {name: "".join(parts) for name, parts in self.texts.items()}
        content = texts.get("content") if self.calls else texts.get("content", "")
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": texts.get("refusal")}
        message |= {name: texts[name] for name in ("reasoning_content", "reasoning") if name in texts}
        if self.calls:
            message["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        return message


class _Stream:
    """A streamed answer as far as it has come."""

    def __init__(self) -> None:
        self.answers: dict[int, _Answer] = {}
        self.usage: TokenCount | None = None
        self.members: dict[str, Any] = {}
        """Those of the last chunk."""
        self.has_output = False
        """Whether there was content, reasoning or a tool call."""
        self.is_finished = False

    def take(self, data: bytes) -> dict[str, Any] | None:
        """Add one chunk; returns its members, None if it is not for the caller.  Raises `ProviderError`."""
        try:
            members = _MEMBERS.decode(data)
            if "error" in members:
                raise ProviderError(f"The provider broke off: {data[:500]!r}", reason="broken_stream")
            choices = _CHUNK_CHOICES.decode(members.get("choices", _EMPTY_LIST))
            if "usage" in members:
                self.usage = _to_token_count(_USAGE.decode(members["usage"])) or self.usage
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProviderError(f"The provider sent a malformed chunk: {error}", reason="malformed") from error
        if not choices:
            return None
        for choice in choices:
            answer = self.answers.get(choice.index)
            if answer is None:
                answer = self.answers[choice.index] = _Answer()
            self.has_output = answer.add(choice) or self.has_output
            self.is_finished = self.is_finished or choice.finish_reason is not None
        self.members = members
        return members

    def count(self, request: bytes) -> TokenCount:
        """Return the tokens: as reported, or else counted."""
        texts = [msgspec.convert(answer.message(), AssistantMessage) for answer in self.answers.values()]
        return self.usage or _estimate(request, texts)


async def _run_stream(ctx: JobContext, call: ProviderCall) -> Produced:
    adapter = ctx.runtime.adapters[ctx.provider.type]
    stream = _Stream()
    ctx.count_so_far = lambda: stream.count(ctx.request)
    identity = _identity(ctx) | {"object": _CHUNK, "usage": _NULL}
    async for batch in adapter.stream(call):
        chunks: list[bytes] = []
        try:
            for data in batch:
                if (members := stream.take(data)) is not None:
                    members.update(identity)
                    chunks.append(json.encode(members))
        finally:  # what came before a broken chunk is the caller's
            if stream.has_output and ctx.first_token_ms is None:
                ctx.first_token_ms = now_ms()
            await ctx.reply.push(chunks)
    if not stream.is_finished:
        raise ProviderError("The provider closed the stream before its end.", reason="broken_stream")
    return Produced(
        tokens=stream.count(ctx.request),
        render=lambda usage: _render_stream(ctx, stream, usage),
        render_last_chunk=lambda usage: _render_last_chunk(ctx, stream, usage),
    )


def _render_stream(ctx: JobContext, stream: _Stream, usage: Usage) -> bytes:
    """Return the answer as if it had not been streamed."""
    choices = [
        {
            "index": index,
            "message": answer.message(),
            "logprobs": answer.logprobs or None,
            "finish_reason": answer.finish_reason,
        }
        for index, answer in sorted(stream.answers.items())
    ]
    kept = {name: stream.members.get(name, _NULL) for name in ("service_tier", "system_fingerprint")}
    return _render(ctx, {**kept, "choices": Raw(json.encode(choices))}, usage)


def _render_last_chunk(ctx: JobContext, stream: _Stream, usage: Usage) -> bytes:
    kept = {name: stream.members.get(name, _NULL) for name in ("service_tier", "system_fingerprint")}
    return json.encode({**_identity(ctx), "object": _CHUNK, "choices": _EMPTY_LIST, **kept, "usage": usage})


def _to_token_count(usage: _UpstreamUsage | None) -> TokenCount | None:
    """Return the provider's numbers; None if it reported none."""
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return TokenCount(
        prompt=min(max(usage.prompt_tokens, 0), _MOST_TOKENS),
        completion=min(max(usage.completion_tokens, 0), _MOST_TOKENS),
        cached=_detail(usage.prompt_tokens_details, "cached_tokens"),
        reasoning=_detail(usage.completion_tokens_details, "reasoning_tokens"),
        prompt_details=_kept(usage.prompt_tokens_details),
        completion_details=_kept(usage.completion_tokens_details),
    )


def _detail(details: Raw, name: str) -> int:
    return min(max(getattr(_DETAILS.decode(details), name, None) or 0, 0), _MOST_TOKENS)


def _kept(details: Raw) -> Raw | UnsetType:
    return UNSET if bytes(details) == b"null" else details.copy()


class _CountedRequest(Struct):
    messages: list[dict[str, Any]]
    tools: Any = None


def _estimate(request: bytes, answers: Iterable[AssistantMessage]) -> TokenCount:
    """Count the text of the request and of all answers."""
    try:
        counted = json.decode(request, type=_CountedRequest)
        prompt = count_message_tokens(counted.messages)
        if counted.tools:
            prompt += count_tokens(json.encode(counted.tools).decode())
    except (msgspec.DecodeError, RecursionError):  # a number or a depth that Python cannot hold, but a provider may
        prompt = len(request) // _BYTES_PER_TOKEN
    completion = 0
    for answer in answers:
        completion += sum(
            count_tokens(text)
            for text in (answer.content, answer.refusal, answer.reasoning_content, answer.reasoning)
            if text
        )
        for call in answer.tool_calls or ():
            if call.function is not None:
                completion += count_tokens(f"{call.function.name or ''} {call.function.arguments or ''}")
    return TokenCount(prompt=prompt, completion=completion, is_estimated=True)
