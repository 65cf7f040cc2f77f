"""A provider without a network: deterministic answers for every operation, and failures on demand.

The request member `simulator` steers it, see `script.Script`; so anybody can load-test an installation, and break it on
purpose, without an account anywhere.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from worker.providers.base import ANY_PARAMETERS, MAX_INPUTS, Operation, ProviderCall, ProviderReply, unsupported
from worker.providers.simulator.chat import complete_chat, stream_chat
from worker.providers.simulator.completion import complete_text, stream_text
from worker.providers.simulator.embedding import embed
from worker.providers.simulator.ocr import complete_ocr
from worker.providers.simulator.rerank import rank
from worker.providers.simulator.speech import complete_speech
from worker.providers.simulator.transcription import complete_transcription

_COMPLETE: Final[dict[Operation, Callable[[ProviderCall], Awaitable[ProviderReply]]]] = {
    "chat": complete_chat,
    "completion": complete_text,
    "embedding": embed,
    "rerank": rank,
    "transcription": complete_transcription,
    "speech": complete_speech,
    "ocr": complete_ocr,
}
_STREAM: Final[dict[Operation, Callable[[ProviderCall], AsyncIterator[list[bytes]]]]] = {
    "chat": stream_chat,
    "completion": stream_text,
}


class Simulator:
    """Serves every operation."""

    max_inputs = MAX_INPUTS
    takes_token_ids = True
    parameters = ANY_PARAMETERS

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the answer; raises `ProviderError`."""
        if call.operation not in _COMPLETE:
            raise unsupported(call)
        return await _COMPLETE[call.operation](call)

    def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Yield the chunks in order; raises `ProviderError`."""
        return _STREAM[call.operation](call)
