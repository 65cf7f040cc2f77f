"""Text completions of the simulator."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from msgspec import Struct, json

from shared.text_input import TextInput, to_inputs
from shared.tokens import count_input_tokens
from worker.providers.base import ProviderCall, ProviderReply
from worker.providers.simulator.script import Script, answer, read_request, refusal, stream, words_of

_MAX_TOKENS: Final = 100_000


class SimulatedRequest(Struct, kw_only=True):
    """What the simulator reads of a request."""

    model: str
    prompt: TextInput
    n: int | None = None
    max_tokens: int | None = None
    simulator: Script = Script()


async def complete_text(call: ProviderCall) -> ProviderReply:
    """Return the completion; raises `ProviderError`."""
    request = _decode(call.body)
    texts = _answer(request)
    reply = {
        "id": "sim-1",
        "object": "text_completion",
        "created": 0,
        "model": request.model,
        "choices": [
            {"index": index, "text": "".join(words), "logprobs": None, "finish_reason": _finish_reason(request, words)}
            for index, words in enumerate(texts)
        ],
    }
    if request.simulator.usage:
        reply["usage"] = _usage(request, texts)
    return await answer(request.simulator, call.attempt, reply, pieces=len(texts[0]))


async def stream_text(call: ProviderCall) -> AsyncIterator[list[bytes]]:
    """Yield the chunks in order, one at a time; raises `ProviderError`."""
    request = _decode(call.body)
    texts = _answer(request)
    async for chunks in stream(request.simulator, call.attempt, _chunks(request, texts), pieces=len(texts[0])):
        yield chunks


def _decode(body: bytes) -> SimulatedRequest:
    request = read_request(body, SimulatedRequest)
    choices = len(to_inputs(request.prompt, "prompt")) * (request.n or 1)
    if request.simulator.tokens * choices > _MAX_TOKENS:
        raise refusal(f"simulator: more than {_MAX_TOKENS} tokens for all choices together", "simulator")
    return request


def _answer(request: SimulatedRequest) -> list[list[str]]:
    """Return the pieces of each choice: the same ones for the same prompt."""
    prompts = to_inputs(request.prompt, "prompt")
    texts = [words_of(request.simulator, json.encode(prompt)) for prompt in prompts]
    return [words[: request.max_tokens] for words in texts for _ in range(request.n or 1)]


def _finish_reason(request: SimulatedRequest, words: list[str]) -> str:
    return "length" if request.max_tokens is not None and len(words) == request.max_tokens else "stop"


def _usage(request: SimulatedRequest, texts: list[list[str]]) -> dict[str, int]:
    prompt = count_input_tokens(to_inputs(request.prompt, "prompt"))
    completion = sum(map(len, texts))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chunks(request: SimulatedRequest, texts: list[list[str]]) -> Iterator[dict[str, Any]]:
    base = {"id": "sim-1", "object": "text_completion", "created": 0, "model": request.model}

    def chunk(index: int, text: str, finish_reason: str | None = None) -> dict[str, Any]:
        return base | {"choices": [{"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}]}

    for index, words in enumerate(texts):
        for word in words:
            yield chunk(index, word)
        yield chunk(index, "", _finish_reason(request, words))
    if request.simulator.usage:
        yield base | {"choices": [], "usage": _usage(request, texts)}
