"""Streamed answers: chunks on their way to the caller, and what is put together from them for the ledger."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from msgspec import Raw, json

from shared.clock import now_ms
from shared.unreadable import UNREADABLE
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.upstream import EMPTY_LIST, NULL, identity_of, members_of, reported_usage, sum_tokens
from worker.providers.base import ProviderCall, ProviderError

_KEPT = ("service_tier", "system_fingerprint")


class StreamedAnswer(ABC):
    """A streamed answer as far as it has come; a kind says what its choices are."""

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
    def estimate(self, request: bytes) -> TokenCount:
        """Count the tokens that the provider did not report."""

    def take(self, data: bytes) -> dict[str, Any] | None:
        """Add one chunk; returns its members, None if it is not for the caller.  Raises `ProviderError`."""
        try:
            members = members_of(data)
            if "error" in members:
                raise ProviderError(f"The provider broke off: {data[:500]!r}", reason="broken_stream")
            has_choices = self.add(members.get("choices", EMPTY_LIST))
            if "usage" in members:
                self.usage = reported_usage(members) or self.usage
        except UNREADABLE as error:
            raise ProviderError(f"The provider sent a malformed chunk: {error}", reason="malformed") from error
        if not has_choices:
            return None
        self.members = members
        return members

    def count(self, request: bytes) -> TokenCount:
        """Return the tokens: as reported, or else counted."""
        return self.usage or self.estimate(request)


class StreamedChoices(StreamedAnswer):
    """A streamed answer whose chunks are passed on."""

    object: Raw
    """Of its chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0
        """Answers of earlier calls, whose indexes come first."""
        self._usages: list[TokenCount | None] = []

    @abstractmethod
    def count_choices(self) -> int:
        """Return how many answers have begun."""

    def begin_call(self) -> int:
        """Take what another call gives as further answers; returns how many there are already."""
        if self.count_choices() > self.offset:
            self._usages.append(self.usage)
            self.usage, self.is_finished, self.offset = None, False, self.count_choices()
        return self.offset

    def count(self, request: bytes) -> TokenCount:
        """Return the tokens of all calls: as reported, or else counted."""
        has_more = self.count_choices() > self.offset or not self._usages
        usages = [*self._usages, self.usage] if has_more else self._usages
        reported = [usage for usage in usages if usage is not None]
        return sum_tokens(reported) if len(reported) == len(usages) else self.estimate(request)

    @abstractmethod
    def choices(self) -> list[dict[str, Any]]:
        """Return the choices of the answer as if it had not been streamed."""

    def kept(self) -> dict[str, Raw]:
        """Return what the answer repeats of its chunks."""
        return {name: self.members.get(name, NULL) for name in _KEPT}


class Progress(Protocol):
    """How far a streamed answer has come."""

    has_output: bool
    is_finished: bool

    def count(self, request: bytes) -> TokenCount:
        """Return the tokens: as reported, or else counted."""
        ...


async def relay(
    ctx: JobContext, call: ProviderCall, answer: Progress, take: Callable[[bytes], Iterable[bytes]]
) -> None:
    """Send what `take` makes of each piece as it comes, until the answer is finished.  Raises `ProviderError`."""
    async for batch in ctx.runtime.adapters[ctx.provider.type].stream(call):
        chunks: list[bytes] = []
        try:
            for data in batch:
                chunks += take(data)
        finally:  # what came before a broken chunk is the caller's
            if answer.has_output and ctx.first_token_ms is None:
                ctx.first_token_ms = now_ms()
                ctx.count_so_far = lambda: answer.count(call.body)
            await ctx.reply.push(chunks)
    if not answer.is_finished:
        raise ProviderError("The provider closed the stream before its end.", reason="broken_stream")


async def run_stream(
    ctx: JobContext,
    call: ProviderCall,
    answer: StreamedChoices,
    render: Callable[[JobContext, dict[str, Any], Usage], bytes],
    shape: Callable[[JobContext, dict[str, Any]], dict[str, Any]] = lambda _ctx, members: members,
    pass_on: Callable[..., Awaitable[None]] = relay,
) -> Produced:
    """Pass the chunks on as they come; `render` makes the stored answer, `shape` the members of a chunk.

    `pass_on` calls the provider.

    Raises `ProviderError`.
    """
    identity = identity_of(ctx) | {"object": answer.object, "usage": NULL}

    def take(data: bytes) -> Iterable[bytes]:
        members = answer.take(data)
        if members is None:
            return ()
        members.update(identity)
        if answer.offset:
            members["choices"] = _shifted(members["choices"], answer.offset)
        return (json.encode(shape(ctx, members)),)

    await pass_on(ctx, call, answer, take)
    return Produced(
        tokens=answer.count(call.body),
        render=lambda usage: render(ctx, {**answer.kept(), "choices": answer.choices()}, usage),
        render_last_chunk=lambda usage: json.encode(shape(ctx, _last_chunk(ctx, answer, usage))),
    )


def _shifted(choices: Raw, offset: int) -> list[dict[str, Any]]:
    found = json.decode(choices, type=list[dict[str, Any]])
    return [choice | {"index": choice.get("index", 0) + offset} for choice in found]


def _last_chunk(ctx: JobContext, answer: StreamedChoices, usage: Usage) -> dict[str, Any]:
    identity = {**identity_of(ctx), "object": answer.object}
    return {**identity, "choices": EMPTY_LIST, **answer.kept(), "usage": usage}
