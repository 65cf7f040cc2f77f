"""Job kind `chat.completion`: call a chat provider, whole or as a stream; the answer gets our id, model and usage."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct, json

from shared.chat.retrieved import retrieved_of
from shared.chat.schemas import AssistantMessage, Choice, ChunkChoice
from shared.directory import Provider, Router
from shared.tokens import count_tokens
from shared.usage.schemas import Usage
from shared.usage.sums import usage_sum
from worker.context import JobContext, Produced, Runtime, TokenCount
from worker.jobs.chat_body import to_chat_upstream
from worker.jobs.chat_files import with_files
from worker.jobs.choices import Wanted, relay_choices
from worker.jobs.dialects import complete_chat, shape_chunk, shape_completion
from worker.jobs.streams import StreamedChoices, run_stream
from worker.jobs.upstream import (
    EMPTY_LIST,
    MALFORMED,
    NULL,
    call_of,
    call_provider,
    count_chat_prompt,
    identity_of,
    malformed,
    members_of,
    reported_usage,
    request_id_of,
    sum_tokens,
)
from worker.providers.base import ProviderError

_COMPLETION, _CHUNK = Raw(b'"chat.completion"'), Raw(b'"chat.completion.chunk"')
_CHOICES = json.Decoder(list[Choice])
_CHUNK_CHOICES = json.Decoder(list[ChunkChoice])


async def run_chat(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    request = complete_chat(ctx.runtime.settings, ctx.router, ctx.message.dialect, ctx.request)
    request = await with_files(ctx, request)
    body = await to_chat_body(ctx.runtime, ctx.router, ctx.provider, request, is_stream=ctx.message.stream)
    if ctx.message.stream:
        call = call_of(ctx, "chat", body)
        return await run_stream(ctx, call, _StreamedChat(), _render, _shape_chunk, relay_choices)
    answers = await _answers(ctx, body)
    return Produced(
        tokens=sum_tokens([one.tokens for one in answers]),
        render=lambda usage: _render(ctx, _joined(answers), usage),
        provider_request_id=answers[-1].request_id,
    )


class _Answer(Struct, frozen=True):
    """What one call gave."""

    members: dict[str, Raw]
    choices: int
    tokens: TokenCount
    request_id: str | None


async def _answers(ctx: JobContext, body: bytes) -> list[_Answer]:
    """Return what the calls gave that all answers took."""
    answers: list[_Answer] = []
    wanted = Wanted(body)
    while (asked := wanted.next_body(sum(one.choices for one in answers))) is not None:
        try:
            answers.append(await _ask(ctx, asked))
            ctx.count_so_far = lambda: sum_tokens([one.tokens for one in answers])
        except ProviderError as error:
            if not wanted.is_refused(error):
                raise
    return answers


async def _ask(ctx: JobContext, body: bytes) -> _Answer:
    reply = await call_provider(ctx, "chat", body)
    try:
        members = members_of(reply.body)
        choices = _CHOICES.decode(members["choices"])
        reported = reported_usage(members)
    except MALFORMED as error:
        raise malformed(error) from error
    tokens = reported or _estimate(ctx.request, [choice.message for choice in choices])
    return _Answer(members, len(choices), tokens, request_id_of(reply))


def _joined(answers: Sequence[_Answer]) -> dict[str, Any]:
    """Return the members of the first answer, with the choices of all."""
    if len(answers) == 1:
        return answers[0].members
    choices = [choice for one in answers for choice in json.decode(one.members["choices"], type=list[dict[str, Any]])]
    numbered = [choice | {"index": index} for index, choice in enumerate(choices)]
    return answers[0].members | {"choices": numbered}


async def to_chat_body(
    _runtime: Runtime, _router: Router, provider: Provider, request: bytes, *, is_stream: bool = False
) -> bytes:
    """Return the body of the call."""
    return to_chat_upstream(request, provider, is_stream=is_stream)


def _render(ctx: JobContext, members: dict[str, Any], usage: Usage) -> bytes:
    """Return the completion: what the provider sent, with our own id, time, model and usage."""
    whole = {
        "service_tier": NULL,
        "system_fingerprint": NULL,
        "search_results": EMPTY_LIST,
        **members,
        **identity_of(ctx),
        "object": _COMPLETION,
        "usage": usage,
        **_retrieved(ctx, usage),
    }
    return json.encode(shape_completion(ctx, whole))


def _shape_chunk(ctx: JobContext, members: dict[str, Any]) -> dict[str, Any]:
    usage = members["usage"]
    return shape_chunk(ctx, members | _retrieved(ctx, usage) if isinstance(usage, Usage) else members)


def _retrieved(ctx: JobContext, usage: Usage) -> dict[str, Any]:
    """Return the members that tell what was searched for this chat."""
    found = retrieved_of(ctx.request)
    if found is None:
        return {}
    if found.retrieval is not None:
        return {"retrieval": found.retrieval}
    total = usage if found.usage is None else usage_sum(usage, found.usage)
    return {"search_results": found.search_results, "usage": total}


_RARE_TEXTS = ("refusal", "reasoning_content", "reasoning")


class _Streamed:
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
                self.logprobs.setdefault(name, []).extend(entries if isinstance(entries, list) else ())
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


class _StreamedChat(StreamedChoices):
    """A streamed chat, put together choice by choice."""

    object = _CHUNK

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[int, _Streamed] = {}

    def add(self, choices: Raw) -> bool:
        """Take the choices of one chunk; returns False if there are none."""
        found = _CHUNK_CHOICES.decode(choices)
        for choice in found:
            index = choice.index + self.offset
            answer = self._answers.get(index)
            if answer is None:
                answer = self._answers[index] = _Streamed()
            self.has_output = answer.add(choice) or self.has_output
            self.is_finished = self.is_finished or choice.finish_reason is not None
        return bool(found)

    def count_choices(self) -> int:
        """Return how many answers have begun."""
        return len(self._answers)

    def choices(self) -> list[dict[str, Any]]:
        """Return the choices as if the answer had not been streamed."""
        return [
            {
                "index": index,
                "message": answer.message(),
                "logprobs": answer.logprobs or None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in sorted(self._answers.items())
        ]

    def estimate(self, request: bytes) -> TokenCount:
        """Count the text of the request and of all answers."""
        texts = [msgspec.convert(answer.message(), AssistantMessage) for answer in self._answers.values()]
        return _estimate(request, texts)


def _estimate(request: bytes, answers: Iterable[AssistantMessage]) -> TokenCount:
    """Count the text of the request and of all answers."""
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
    return TokenCount(prompt=count_chat_prompt(request), completion=completion, is_estimated=True)
