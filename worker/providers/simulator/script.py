"""What a caller may tell the simulator to do."""

import asyncio
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from worker.providers.base import ProviderError

_FIRST_DELAY_OF_TIMEOUT_MS: Final = 1000


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
