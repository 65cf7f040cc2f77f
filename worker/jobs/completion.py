"""Job kind `completion`: continue texts, whole or as a stream; the answer gets our id, model and usage."""

from collections.abc import Iterable
from typing import Any

from msgspec import Raw, Struct, json

from shared.completions.schemas import CompletionChoice
from shared.directory import Provider, Router
from shared.text_input import TextInput, to_inputs
from shared.tokens import count_input_tokens, count_tokens
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, Runtime, TokenCount
from worker.jobs.streams import StreamedChoices, run_stream
from worker.jobs.token_ids import with_texts
from worker.jobs.upstream import (
    MALFORMED,
    NULL,
    call_of,
    call_provider,
    identity_of,
    malformed,
    members_of,
    reported_usage,
    request_id_of,
    to_upstream,
)

_TEXT_COMPLETION = Raw(b'"text_completion"')
_CHOICES = json.Decoder(list[CompletionChoice])


class _Asked(Struct):
    prompt: TextInput


_ASKED = json.Decoder(_Asked, strict=False)


async def run_completion(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    body = await to_completion_body(ctx.runtime, ctx.router, ctx.provider, ctx.request, is_stream=ctx.message.stream)
    if ctx.message.stream:
        return await run_stream(ctx, call_of(ctx, "completion", body), _StreamedCompletion(), _render)
    reply = await call_provider(ctx, "completion", body)
    try:
        members = members_of(reply.body)
        choices = _CHOICES.decode(members["choices"])
        reported = reported_usage(members)
    except MALFORMED as error:
        raise malformed(error) from error
    tokens = reported or _estimate(ctx.request, (choice.text for choice in choices))
    return Produced(
        tokens=tokens,
        render=lambda usage: _render(ctx, members, usage),
        provider_request_id=request_id_of(reply),
    )


async def to_completion_body(
    runtime: Runtime, router: Router, provider: Provider, request: bytes, *, is_stream: bool = False
) -> bytes:
    """Return the body of the call; raises `ProviderError`."""
    prompts = to_inputs(_ASKED.decode(request).prompt, "prompt")
    request = await with_texts(runtime, router, provider, request, "prompt", prompts)
    return to_upstream(request, provider.model_name, "completion", is_stream=is_stream)


def _render(ctx: JobContext, members: dict[str, Any], usage: Usage) -> bytes:
    """Return the completion: what the provider sent, with our own id, time, model and usage."""
    return json.encode(
        {"system_fingerprint": NULL, **members, **identity_of(ctx), "object": _TEXT_COMPLETION, "usage": usage}
    )


def _estimate(request: bytes, texts: Iterable[str]) -> TokenCount:
    """Count the prompts and all texts."""
    prompts = to_inputs(_ASKED.decode(request).prompt, "prompt")
    return TokenCount(prompt=count_input_tokens(prompts), completion=sum(map(count_tokens, texts)), is_estimated=True)


class _Text:
    """One choice of a streamed answer, put together from its pieces."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.finish_reason: str | None = None
        self.logprobs: dict[str, list[Any]] = {}


class _StreamedCompletion(StreamedChoices):
    """A streamed completion, put together choice by choice."""

    object = _TEXT_COMPLETION

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[int, _Text] = {}

    def add(self, choices: Raw) -> bool:
        """Take the choices of one chunk; returns False if there are none."""
        found = _CHOICES.decode(choices)
        for choice in found:
            known = self._texts.setdefault(choice.index, _Text())
            known.pieces.append(choice.text)
            known.finish_reason = choice.finish_reason or known.finish_reason
            if isinstance(choice.logprobs, dict):
                for name, entries in choice.logprobs.items():
                    known.logprobs.setdefault(name, []).extend(entries if isinstance(entries, list) else ())
            self.has_output = self.has_output or bool(choice.text)
            self.is_finished = self.is_finished or choice.finish_reason is not None
        return bool(found)

    def count_choices(self) -> int:
        """Return how many answers have begun."""
        return len(self._texts)

    def choices(self) -> list[dict[str, Any]]:
        """Return the choices as if the answer had not been streamed."""
        return [
            {
                "index": index,
                "text": "".join(known.pieces),
                "logprobs": known.logprobs or None,
                "finish_reason": known.finish_reason,
            }
            for index, known in sorted(self._texts.items())
        ]

    def estimate(self, request: bytes) -> TokenCount:
        """Count the prompts and all texts."""
        return _estimate(request, ("".join(known.pieces) for known in self._texts.values()))
