"""What a caller may tell the simulator to do."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any, Final, Literal, TypeVar

from msgspec import Meta, Struct, json

from shared.unreadable import UNREADABLE
from worker.providers.base import ProviderError, ProviderReply
from worker.providers.simulator.words import made_up_words

_FIRST_DELAY_OF_TIMEOUT_MS: Final = 1000
_CHUNKS_PER_TURN: Final = 100
T = TypeVar("T")


class Script(Struct, frozen=True, kw_only=True):
    """What the simulator is asked to do."""

    tokens: Annotated[int, Meta(ge=0, le=100_000)] = 20
    """Length of the answer in tokens, which are words here."""
    delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    """Wait before the first byte."""
    chunk_delay_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """Wait before each further chunk; of a whole answer, per token."""
    text: str | None = None
    """The answer, instead of made-up words."""
    fail: Literal["429", "500", "400", "401", "timeout", "cut", "malformed"] | None = None
    fail_attempts: Annotated[int, Meta(ge=1)] = 1_000_000
    """Only the first so many attempts of the job fail."""
    usage: bool = True
    """False: report no usage, as some servers do."""


async def begin(script: Script, attempt: int) -> Literal["cut", "malformed"] | None:
    """Wait, and fail if that is asked for before the first byte; returns the failure to make later."""
    fail = script.fail if attempt <= script.fail_attempts else None
    if fail == "timeout":
        await asyncio.sleep((script.delay_ms or _FIRST_DELAY_OF_TIMEOUT_MS) / 1000)
        raise ProviderError("The provider did not answer in time.", reason="timeout")
    await asyncio.sleep(script.delay_ms / 1000)
    match fail:
        case "429":
            raise ProviderError("Too many requests.", reason="http_429", status=429, retry_after_s=1.0)
        case "500":
            raise ProviderError("The simulator was told to fail.", reason="http_5xx", status=500)
        case "400":
            raise ProviderError(
                "The simulator was told to refuse.", blame="request", reason="http_400", status=400, code="refused"
            )
        case "401":
            raise ProviderError("Incorrect API key.", blame="operator", reason="http_401", status=401)
    return fail


def read_request(body: bytes, kind: type[T]) -> T:
    """Return the request; raises `ProviderError` if the script in it cannot be understood."""
    try:
        return json.decode(body, type=kind, strict=False)
    except UNREADABLE as error:
        raise refusal(f"simulator: {error}", "simulator") from error


def refusal(message: str, param: str) -> ProviderError:
    """Return the answer to a request that cannot be served."""
    return ProviderError(message, blame="request", reason="http_400", status=400, param=param)


def words_of(script: Script, subject: bytes) -> list[str]:
    """Return the pieces of a text: the same ones for the same subject."""
    if script.text is not None:
        pieces = script.text.split(" ")
        return [pieces[0], *(" " + piece for piece in pieces[1:])]
    chosen = made_up_words(hashlib.sha256(subject).digest(), script.tokens)
    return [word if number == 0 else " " + word for number, word in enumerate(chosen)]


async def answer(script: Script, attempt: int, document: dict[str, Any], *, pieces: int = 0) -> ProviderReply:
    """Return the document, or fail as the script says; raises `ProviderError`."""
    fails = await begin(script, attempt)
    await asyncio.sleep(script.chunk_delay_ms * pieces / 1000)
    if fails == "cut":
        raise ProviderError("The provider closed the connection.", reason="connection")
    if fails == "malformed":
        return ProviderReply(b'{"choices": [', None)
    return ProviderReply(json.encode(document), "sim-request-1")


async def stream(
    script: Script, attempt: int, chunks: Iterable[dict[str, Any]], *, pieces: int
) -> AsyncIterator[list[bytes]]:
    """Yield the chunks one at a time, or fail as the script says, in the middle; raises `ProviderError`."""
    fails = await begin(script, attempt)
    for number, chunk in enumerate(chunks):
        if number and (script.chunk_delay_ms or number % _CHUNKS_PER_TURN == 0):
            await asyncio.sleep(script.chunk_delay_ms / 1000)  # other jobs of this process want to go on, too
        if fails is not None and number >= max(pieces // 2, 1):
            if fails == "malformed":
                yield [b'{"choices": [']
            raise ProviderError("The provider closed the stream.", reason="connection")
        yield [json.encode(chunk)]
