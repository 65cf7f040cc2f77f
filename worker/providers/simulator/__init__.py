"""A provider without a network: deterministic answers for every operation, and failures on demand.

The request member `simulator` steers it, see `script.Script`; so anybody can load-test an installation, and break it on
purpose, without an account anywhere.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from worker.providers.base import Operation, ProviderCall, ProviderError, ProviderReply
from worker.providers.simulator.chat import complete_chat, stream_chat
from worker.providers.simulator.ocr import complete_ocr
from worker.providers.simulator.speech import complete_speech
from worker.providers.simulator.transcription import complete_transcription

_COMPLETE: Final[dict[Operation, Callable[[ProviderCall], Awaitable[ProviderReply]]]] = {
    "chat": complete_chat,
    "transcription": complete_transcription,
    "speech": complete_speech,
    "ocr": complete_ocr,
}
_STREAM: Final[dict[Operation, Callable[[ProviderCall], AsyncIterator[list[bytes]]]]] = {"chat": stream_chat}


class Simulator:
    """Serves every operation."""

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the answer; raises `ProviderError`."""
        if call.operation not in _COMPLETE:
            raise ProviderError(f"The simulator cannot {call.operation}.", blame="operator", reason="unsupported")
        return await _COMPLETE[call.operation](call)

    def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Yield the chunks in order; raises `ProviderError`."""
        return _STREAM[call.operation](call)
