"""Streamed answers: chunks on their way to the caller, and what is put together from them for the ledger."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, json

from shared.clock import now_ms
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.upstream import EMPTY_LIST, MEMBERS, NULL, USAGE, identity_of, to_token_count
from worker.providers.base import ProviderCall, ProviderError

_KEPT = ("service_tier", "system_fingerprint")


class StreamedAnswer(ABC):
    """A streamed answer as far as it has come; a kind says what its choices are."""

    object: Raw
    """Of its chunks."""

    def __init__(self) -> None:
        self.usage: TokenCount | None = None
        self.members: dict[str, Any] = {}
        """Those of the last chunk."""
        self.has_output = False
        """Whether there was content, reasoning or a tool call."""
        self.is_finished = False

    @abstractmethod
    def add(self, choices: Raw) -> bool:
        """Take the choices of one chunk; returns False if there are none.  Raises `msgspec.DecodeError`."""

    @abstractmethod
    def choices(self) -> list[dict[str, Any]]:
        """Return the choices of the answer as if it had not been streamed."""

    @abstractmethod
    def estimate(self, request: bytes) -> TokenCount:
        """Count the tokens that the provider did not report."""

    def take(self, data: bytes) -> dict[str, Any] | None:
        """Add one chunk; returns its members, None if it is not for the caller.  Raises `ProviderError`."""
        try:
            members = MEMBERS.decode(data)
            if "error" in members:
                raise ProviderError(f"The provider broke off: {data[:500]!r}", reason="broken_stream")
            has_choices = self.add(members.get("choices", EMPTY_LIST))
            if "usage" in members:
                self.usage = to_token_count(USAGE.decode(members["usage"])) or self.usage
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProviderError(f"The provider sent a malformed chunk: {error}", reason="malformed") from error
        if not has_choices:
            return None
        self.members = members
        return members

    def count(self, request: bytes) -> TokenCount:
        """Return the tokens: as reported, or else counted."""
        return self.usage or self.estimate(request)

    def kept(self) -> dict[str, Raw]:
        """Return what the answer repeats of its chunks."""
        return {name: self.members.get(name, NULL) for name in _KEPT}


async def run_stream(
    ctx: JobContext,
    call: ProviderCall,
    answer: StreamedAnswer,
    render: Callable[[JobContext, dict[str, Any], Usage], bytes],
    extra: Callable[[JobContext, Usage], dict[str, Any]] = lambda _ctx, _usage: {},
) -> Produced:
    """Pass the chunks on as they come.

    `render` makes the stored answer, `extra` further members of the chunk with the usage.  Raises `ProviderError`.
    """
    adapter = ctx.runtime.adapters[ctx.provider.type]
    ctx.count_so_far = lambda: answer.count(ctx.request)
    identity = identity_of(ctx) | {"object": answer.object, "usage": NULL}
    async for batch in adapter.stream(call):
        chunks: list[bytes] = []
        try:
            for data in batch:
                if (members := answer.take(data)) is not None:
                    members.update(identity)
                    chunks.append(json.encode(members))
        finally:  # what came before a broken chunk is the caller's
            if answer.has_output and ctx.first_token_ms is None:
                ctx.first_token_ms = now_ms()
            await ctx.reply.push(chunks)
    if not answer.is_finished:
        raise ProviderError("The provider closed the stream before its end.", reason="broken_stream")
    return Produced(
        tokens=answer.count(ctx.request),
        render=lambda usage: render(ctx, {**answer.kept(), "choices": answer.choices()}, usage),
        render_last_chunk=lambda usage: _render_last_chunk(ctx, answer, usage, extra(ctx, usage)),
    )


def _render_last_chunk(ctx: JobContext, answer: StreamedAnswer, usage: Usage, extra: dict[str, Any]) -> bytes:
    identity = {**identity_of(ctx), "object": answer.object}
    return json.encode({**identity, "choices": EMPTY_LIST, **answer.kept(), "usage": usage, **extra})
