"""Job kind `response`: by the provider's own responses route, or as a chat whose answer becomes items and events.

Responses keep a log of events even if they are not streamed; see `shared.responses.events`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Raw, json
from msgspec.structs import replace

from shared.chat.schemas import AssistantMessage, Choice, ChunkChoice
from shared.clock import now_ms
from shared.jobs.schemas import alias_of
from shared.replies.entries import Kind
from shared.responses.events import ResponseEvents, begin_events
from shared.responses.from_chat import AnswerItems
from shared.responses.objects import to_response
from shared.responses.schemas import Response, StoredRequest
from shared.responses.to_chat import NotTranslatableError, decode_stored_request, to_chat
from shared.tokens import count_tokens
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.chat_body import to_chat_upstream
from worker.jobs.native_response import NativeAnswer, read_native, to_native
from worker.jobs.streams import StreamedAnswer, relay
from worker.jobs.upstream import (
    MALFORMED,
    call_of,
    call_provider,
    count_chat_prompt,
    malformed,
    members_of,
    reported_usage,
    request_id_of,
)
from worker.providers.base import ProviderError

_CHOICES: Final = json.Decoder(list[Choice])
_CHUNK_CHOICES: Final = json.Decoder(list[ChunkChoice])


async def run_response(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    request = decode_stored_request(ctx.request)
    events = _begin(ctx, request)
    if ctx.provider.native_responses:
        return await _run_native(ctx, request, events)
    try:
        chat = to_chat(ctx.request)
    except NotTranslatableError as error:
        raise ProviderError(
            str(error), blame="request", reason="http_400", status=400, code="unsupported_parameter", param="input"
        ) from error
    body = to_chat_upstream(chat, ctx.provider, is_stream=ctx.message.stream)
    if ctx.message.stream:
        return await _stream_chat(ctx, request, events, body)
    return await _call_chat(ctx, request, events, body)


def _begin(ctx: JobContext, request: StoredRequest) -> ResponseEvents:
    sent = [entry.data for entry in ctx.reply.entries if entry.kind is Kind.CHUNK]
    return begin_events(ctx.message.job_id, _response(ctx, request, status="in_progress"), sent)


def _response(ctx: JobContext, request: StoredRequest, **members: Any) -> Response:
    message = ctx.message
    return to_response(
        request, response_id=alias_of(message.kind, message.job_id), created_at=message.created_ms // 1000,
        model=message.model, **members,
    )  # fmt: skip


def _produced(  # all there is about an answer
    ctx: JobContext, request: StoredRequest, output: list[dict[str, Any]], reason: str | None, tokens: TokenCount,
    provider_request_id: str | None,
) -> Produced:  # fmt: skip
    def render(usage: Usage) -> bytes:
        status = "completed" if reason is None else "incomplete"
        response = _response(
            ctx, request, status=status, completed_at=now_ms() // 1000, output=output, usage=usage,
            incomplete_reason=reason,
        )  # fmt: skip
        return json.encode(response)

    return Produced(tokens=tokens, render=render, incomplete_reason=reason, provider_request_id=provider_request_id)


async def _call_chat(ctx: JobContext, request: StoredRequest, events: ResponseEvents, body: bytes) -> Produced:
    reply = await call_provider(ctx, "chat", body)
    items = AnswerItems(events)
    try:
        members = members_of(reply.body)
        choice = _CHOICES.decode(members["choices"])[0]
        reported = reported_usage(members)
        items.add(ChunkChoice(delta=_numbered(choice.message), logprobs=choice.logprobs))
    except (*MALFORMED, IndexError) as error:
        raise malformed(error) from error
    reason = items.finish(choice.finish_reason)
    _keep(ctx, events)
    tokens = reported or _estimate(body, items.texts())
    return _produced(ctx, request, items.output, reason, tokens, request_id_of(reply))


def _numbered(message: AssistantMessage) -> AssistantMessage:
    """Return the message with its calls told apart as in a stream."""
    calls = [replace(call, index=index) for index, call in enumerate(message.tool_calls or ())]
    return replace(message, tool_calls=calls)


def _keep(ctx: JobContext, events: ResponseEvents) -> None:
    """Take the events into the log of a response that is not streamed."""
    for data in events.take():
        ctx.reply.prepare(data)


class _StreamedChat(StreamedAnswer):
    """A streamed chat that becomes items."""

    def __init__(self, items: AnswerItems) -> None:
        super().__init__()
        self.finish_reason: str | None = None
        self._items = items

    def add(self, choices: Raw) -> bool:
        """Take the choices of one chunk; returns False if there are none."""
        found = [choice for choice in _CHUNK_CHOICES.decode(choices) if choice.index == 0]
        for choice in found:
            self.has_output = self._items.add(choice) or self.has_output
            self.finish_reason = choice.finish_reason or self.finish_reason
            self.is_finished = self.finish_reason is not None
        return bool(found)

    def estimate(self, request: bytes) -> TokenCount:
        """Count the text of the request and of all items."""
        return _estimate(request, self._items.texts())


def _estimate(chat: bytes, texts: Iterable[str]) -> TokenCount:
    completion = sum(count_tokens(text) for text in texts if text)
    return TokenCount(prompt=count_chat_prompt(chat), completion=completion, is_estimated=True)


async def _stream_chat(ctx: JobContext, request: StoredRequest, events: ResponseEvents, body: bytes) -> Produced:
    items = AnswerItems(events)
    answer = _StreamedChat(items)

    def take(data: bytes) -> Sequence[bytes]:
        answer.take(data)
        return events.take()

    await relay(ctx, call_of(ctx, "chat", body), answer, take)
    reason = items.finish(answer.finish_reason)
    await ctx.reply.push(events.take())
    return _produced(ctx, request, items.output, reason, answer.count(body), None)


async def _run_native(ctx: JobContext, request: StoredRequest, events: ResponseEvents) -> Produced:
    body = to_native(ctx.request, ctx.provider.model_name, is_stream=ctx.message.stream)
    if ctx.message.stream:
        answer = NativeAnswer(events, estimate=lambda texts: _estimate_native(ctx.request, texts))
        await relay(ctx, call_of(ctx, "response", body), answer, answer.take)
        tokens, request_id = answer.count(body), None
    else:
        reply = await call_provider(ctx, "response", body)
        answer = read_native(reply.body, events, estimate=lambda texts: _estimate_native(ctx.request, texts))
        _keep(ctx, events)
        tokens, request_id = answer.count(body), request_id_of(reply)
    return _produced(ctx, request, answer.output, answer.incomplete_reason, tokens, request_id)


def _estimate_native(request: bytes, texts: Iterable[str]) -> TokenCount:
    try:
        chat = to_chat(request)
    except NotTranslatableError:  # files by URL, whose length nobody knows here
        chat = request
    return _estimate(chat, texts)
