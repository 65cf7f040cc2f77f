"""What an adapter gets and gives.

An adapter knows one wire format and one transport.  It returns documents as the provider sent them, in OpenAI's form;
the job kinds read and rewrite them.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from shared.directory import Provider

Operation = Literal["chat", "completion", "response", "embedding", "rerank", "ocr", "transcription", "speech"]
"""What a provider is asked for."""
Blame = Literal["request", "operator", "provider", "sluice"]
"""Who has to act: the caller, since the request is at fault; the operator, since key or model name are; nobody but the
provider, which may well succeed the next time; or Sluice, which cannot read the file of the request."""


class ProviderError(Exception):
    """The provider did not answer usefully.

    Args:
        message: shown to the caller if the request is to blame, and in the attempt if the provider is.
        blame: see `Blame`; decides what happens next.
        reason: short word for the attempt's `retry_reason`: `http_5xx`, `timeout`, `connection`, ..
        status: HTTP status of the provider; None if there was no answer.
        retry_after_s: the provider's own wish.
        code: the provider's error code.
        param: the member of the request the provider names.

    """

    def __init__(  # noqa: PLR0913  # described above
        self,
        message: str,
        *,
        blame: Blame = "provider",
        reason: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message = storable(message)
        self.blame = blame
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s
        self.code = code and storable(code)
        self.param = param and storable(param)


def storable(text: str) -> str:
    """Return a provider's words without NUL, which PostgreSQL keeps in no text."""
    return text.replace("\x00", "")


class ProviderFile(Struct, frozen=True, kw_only=True):
    """A file that goes with a call, on its way out of the store; it can be read once."""

    size_bytes: int
    chunks: AsyncIterator[bytes]
    """Raise `ProviderError`."""
    name: str = ""
    content_type: str = "application/octet-stream"
    placeholder: bytes | None = None
    """What it takes the place of in the body; None: it is sent beside the members of the body, as a form."""

    async def read(self) -> bytes:
        """Return it as a whole, for formats that need that; raises `ProviderError`."""
        return b"".join([chunk async for chunk in self.chunks])


class ProviderCall(Struct, frozen=True, kw_only=True):
    """One call of a provider."""

    provider: Provider
    operation: Operation
    body: bytes
    """JSON in OpenAI's form, with the provider's model name."""
    attempt: int
    traceparent: str | None = None
    """Of the call itself; the provider is told nothing of a trace unless the settings say so."""
    tracestate: str | None = None
    file: ProviderFile | None = None


class ProviderReply(Struct, frozen=True):
    """A whole answer, in OpenAI's form."""

    body: bytes
    request_id: str | None
    content_type: str = "application/json"
    """Without parameters."""


def without_secrets(message: str, provider: Provider) -> str:
    """Return what a caller may read: not where the provider is, nor our key to it."""
    place = urlsplit(provider.url)
    host = place.hostname if place.hostname is not None and "." in place.hostname else None
    for secret in (provider.key, provider.url.rstrip("/"), place.netloc, host):
        if secret:
            message = message.replace(secret, "[...]")
    return message


def unsupported(call: ProviderCall) -> ProviderError:
    """Return the error of an operation that a provider of this type does not have."""
    message = f"A provider of type {call.provider.type} has no operation `{call.operation}`."
    return ProviderError(message, blame="operator", reason="unsupported")


JUDGE_INVALID: Final = "judge_invalid_output"
"""Reason of the failure of a model that was asked to judge, twice, and gave no verdict."""
MAX_INPUTS: Final = 2048
ANY_PARAMETERS: Final[Mapping[Operation, frozenset[str]]] = {}


class Adapter(Protocol):
    """Speaks one wire format."""

    max_inputs: int
    """Texts that are tried in one call; if a server refuses so many, halves follow."""
    takes_token_ids: bool
    """Whether the format has ids in the place of a text."""
    parameters: Mapping[Operation, frozenset[str]]
    """Members of a request that the format has, in OpenAI's names; of an operation that is not named it has all."""

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the whole answer; raises `ProviderError`."""
        ...

    def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Yield the chunks in order, as many as came at once, without the final `[DONE]`; raises `ProviderError`."""
        ...
