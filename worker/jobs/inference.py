"""Job kind `inference`: Inflection's older routes, whole or as a stream, over chat providers."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import UNSET, Raw, UnsetType, json

from shared.chat.parameter_sets import PARAMETER_SETS
from shared.chat.retrieved import retrieved_of
from shared.chat.schemas import AssistantMessage, Choice, ChunkChoice
from shared.clock import now_ms
from shared.facades.inflection.inference import join_instructions, to_chat, to_reply, to_tool_calls
from shared.facades.inflection.schemas import InferenceEvent, InferenceReply, InferenceRequest, InferenceToolCall
from shared.tokens import count_tokens
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.chat_body import to_chat_upstream
from worker.jobs.dialects import complete_chat
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

_REQUEST: Final = json.Decoder(InferenceRequest, strict=False)
_CHOICES: Final = json.Decoder(list[Choice])
_CHUNK_CHOICES: Final = json.Decoder(list[ChunkChoice])


async def run_inference(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    request = _REQUEST.decode(ctx.request)
    found = retrieved_of(ctx.request)
    asked = to_chat(request, None if found is None else found.web)
    if (chosen := PARAMETER_SETS.get(ctx.provider.parameter_set)) is not None and chosen.wants_one_system:
        asked["messages"] = join_instructions(asked["messages"])
    chat = complete_chat(ctx.runtime.settings, ctx.router, ctx.message.dialect, json.encode(asked))
    body = to_chat_upstream(chat, ctx.provider, is_stream=ctx.message.stream)
    if ctx.message.stream:
        return await _stream(ctx, body)
    reply = await call_provider(ctx, "chat", body)
    try:
        members = members_of(reply.body)
        message = _CHOICES.decode(members["choices"])[0].message
        reported = reported_usage(members)
    except (*MALFORMED, IndexError) as error:
        raise malformed(error) from error
    answered = json.encode(to_reply(message, ctx.message.created_ms / 1000))
    return Produced(
        tokens=reported or _estimate(body, [message.content, message.reasoning_content]),
        render=lambda _usage: answered,
        provider_request_id=request_id_of(reply),
    )


async def _stream(ctx: JobContext, body: bytes) -> Produced:
    answer = _StreamedInference()
    await relay(ctx, call_of(ctx, "chat", body), answer, answer.take_events)
    await ctx.reply.push(answer.last_events())
    reply = InferenceReply(
        created=ctx.message.created_ms / 1000,
        text=answer.text,
        tool_calls=answer.tool_calls(),
        reasoning_content="".join(answer.reasoning) or None,
    )
    return Produced(tokens=answer.count(body), render=lambda _usage: json.encode(reply))


class _StreamedInference(StreamedAnswer):
    """A streamed chat whose first choice becomes events."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self._events: list[bytes] = []
        self._sent = 0
        self._calls: dict[int, dict[str, Any]] = {}
        self._complete: list[InferenceToolCall] | None = None

    @property
    def text(self) -> str:
        """Return the text so far."""
        return "".join(self.texts)

    def take_events(self, data: bytes) -> Iterable[bytes]:
        """Return the events of one chunk; raises `ProviderError`."""
        self.take(data)
        events, self._events = self._events, []
        return events

    def add(self, choices: Raw) -> bool:
        """Take the choices of one chunk; returns False if there are none."""
        found = [choice for choice in _CHUNK_CHOICES.decode(choices) if choice.index == 0]
        for choice in found:
            self._add(choice.delta)
            self.is_finished = self.is_finished or choice.finish_reason is not None
        return bool(found)

    def _add(self, delta: AssistantMessage) -> None:
        if delta.content:
            self.texts.append(delta.content)
            self._emit(text=delta.content)
        if reasoning := delta.reasoning_content or delta.reasoning:
            self.reasoning.append(reasoning)
            self._emit(reasoning=reasoning)
        for call in delta.tool_calls or ():
            self.has_output = True
            known = self._calls.setdefault(call.index or 0, {"id": None, "function": {"name": "", "arguments": ""}})
            known["id"] = call.id or known["id"]
            if call.function is not None:
                known["function"]["name"] += call.function.name or ""
                known["function"]["arguments"] += call.function.arguments or ""

    def _emit(
        self, text: str = "", reasoning: str | UnsetType = UNSET, calls: list[InferenceToolCall] | None = None
    ) -> None:
        self.has_output = True
        event = InferenceEvent(
            created=now_ms() / 1000, idx=self._sent, text=text, tool_calls=calls, reasoning_content=reasoning
        )
        self._events.append(json.encode(event))
        self._sent += 1

    def tool_calls(self) -> list[InferenceToolCall] | None:
        """Return the calls, put together; the same ones each time."""
        if self._complete is None:
            self._complete = to_tool_calls([self._calls[index] for index in sorted(self._calls)])
        return self._complete

    def last_events(self) -> list[bytes]:
        """Return the event with the calls; an answer without any event gets an empty one."""
        if (calls := self.tool_calls()) is not None or not self._sent:
            self._emit(calls=calls)
        events, self._events = self._events, []
        return events

    def estimate(self, request: bytes) -> TokenCount:
        """Count the text of the request and of the answer."""
        calls = [f"{call['function']['name']} {call['function']['arguments']}" for call in self._calls.values()]
        return _estimate(request, [self.text, *self.reasoning, *calls])


def _estimate(chat: bytes, texts: Iterable[str | None]) -> TokenCount:
    completion = sum(count_tokens(text) for text in texts if text)
    return TokenCount(prompt=count_chat_prompt(chat), completion=completion, is_estimated=True)
