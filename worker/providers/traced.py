"""Around an adapter: each call is a span with the attributes of OpenTelemetry's conventions for generative AI.

Nothing of prompts and answers is told, nor the text of an error, which may repeat them.
Source: OpenTelemetry, "Semantic conventions for generative client AI spans", 1.41.
"""

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, json
from msgspec.structs import replace
from yarl import URL

from shared.unreadable import UNREADABLE
from worker.providers.base import Adapter, Operation, ProviderCall, ProviderError, ProviderReply

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from shared.tracing.tracer import Tracer

_OPERATIONS: Final[dict[Operation, str]] = {
    "completion": "text_completion", "embedding": "embeddings", "response": "chat",
}  # fmt: skip
"""Names that the conventions have; others are called as Sluice calls them."""
_PROVIDERS: Final = {"mistral": "mistral_ai"}


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Choice(Struct):
    finish_reason: str | None = None


class _Told(Struct):
    """What an answer, or a chunk of one, says of itself."""

    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    choices: list[_Choice] | None = None
    response: "_Told | None" = None
    """Of an event of a response."""


_TOLD: Final = json.Decoder(_Told)


class Traced:
    """The same adapter with spans; if it `tells_provider`, calls carry their `traceparent`."""

    def __init__(self, adapter: Adapter, tracer: "Tracer", *, tells_provider: bool) -> None:
        self._adapter = adapter
        self._tracer = tracer
        self._tells_provider = tells_provider
        self.max_inputs = adapter.max_inputs
        self.takes_token_ids = adapter.takes_token_ids
        self.parameters = adapter.parameters

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the whole answer; raises `ProviderError`."""
        span, call = self._begin(call, is_stream=False)
        try:
            reply = await self._adapter.complete(call)
            if reply.content_type == "application/json":
                _note(span, reply.body)
        except BaseException as error:
            self._tracer.fail(span, _type_of(error))
            raise
        else:
            return reply
        finally:
            span.end()

    async def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Yield the chunks in order, as many as came at once; raises `ProviderError`."""
        span, call = self._begin(call, is_stream=True)
        begun, is_first = time.perf_counter(), True
        try:
            async for chunks in self._adapter.stream(call):
                if is_first:
                    span.set_attribute("gen_ai.response.time_to_first_chunk", time.perf_counter() - begun)
                    is_first = False
                for chunk in chunks:
                    _note(span, chunk)
                yield chunks
        except GeneratorExit:  # whoever reads it has what he needs, or gave up
            raise
        except BaseException as error:
            self._tracer.fail(span, _type_of(error))
            raise
        finally:
            span.end()

    def _begin(self, call: ProviderCall, *, is_stream: bool) -> "tuple[Span, ProviderCall]":
        provider, url = call.provider, URL(call.provider.url)
        operation = _OPERATIONS.get(call.operation, call.operation)
        attributes: dict[str, str | int | bool] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _PROVIDERS.get(provider.type, provider.type),
            "gen_ai.request.model": provider.model_name,
            "sluice.provider.id": provider.id,
        }
        if url.host and url.port:  # not of the simulator
            attributes |= {"server.address": url.host, "server.port": url.port}
        if is_stream:
            attributes["gen_ai.request.stream"] = True
        span = self._tracer.begin(f"{operation} {provider.model_name}", "client", attributes)
        if self._tells_provider:
            headers = self._tracer.carried(span)
            call = replace(call, traceparent=headers.get("traceparent"), tracestate=headers.get("tracestate"))
        return span, call


def _type_of(error: BaseException) -> str:
    if isinstance(error, ProviderError):
        return str(error.status) if error.status is not None else error.reason
    return type(error).__name__


def _note(span: "Span", body: bytes) -> None:
    """Say what the provider says of its answer; what cannot be read is left to the kind."""
    if not span.is_recording():
        return
    with suppress(*UNREADABLE):
        told = _TOLD.decode(body)
        for one in (told, told.response):
            if one is not None:
                span.set_attributes(_attributes(one))


def _attributes(told: _Told) -> dict[str, Any]:
    usage = told.usage or _Usage()
    reasons = [one.finish_reason for one in told.choices or () if one.finish_reason is not None]
    found = {
        "gen_ai.response.id": told.id,
        "gen_ai.response.model": told.model,
        "gen_ai.usage.input_tokens": usage.prompt_tokens if usage.input_tokens is None else usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens if usage.output_tokens is None else usage.output_tokens,
        "gen_ai.response.finish_reasons": reasons or None,
    }
    return {name: value for name, value in found.items() if value is not None}
