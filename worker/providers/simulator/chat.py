"""Chat completions of the simulator."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from msgspec import Struct, json

from shared.tokens import count_message_tokens
from worker.providers.base import ProviderCall, ProviderReply
from worker.providers.simulator.schema import make_up
from worker.providers.simulator.script import Script, answer, read_request, refusal, stream, words_of

_MAX_TOKENS: Final = 100_000


class SimulatedRequest(Struct, kw_only=True):
    """What the simulator reads of a request."""

    model: str
    messages: list[dict[str, Any]] = []
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None
    simulator: Script = Script()


async def complete_chat(call: ProviderCall) -> ProviderReply:
    """Return the completion; raises `ProviderError`."""
    request = _decode(call.body)
    words = _answer(request)
    reply = {
        "id": "sim-1",
        "object": "chat.completion",
        "created": 0,
        "model": request.model,
        "choices": [_choice(request, index, words) for index in range(request.n or 1)],
    }
    if request.simulator.usage:
        reply["usage"] = _usage(request, words)
    return await answer(request.simulator, call.attempt, reply, pieces=len(words))


async def stream_chat(call: ProviderCall) -> AsyncIterator[list[bytes]]:
    """Yield the chunks in order, one at a time; raises `ProviderError`."""
    request = _decode(call.body)
    words = _answer(request)
    async for chunks in stream(request.simulator, call.attempt, _chunks(request, words), pieces=len(words)):
        yield chunks


def _decode(body: bytes) -> SimulatedRequest:
    request = read_request(body, SimulatedRequest)
    if request.simulator.tokens * (request.n or 1) > _MAX_TOKENS:
        raise refusal(f"simulator: more than {_MAX_TOKENS} tokens for all choices together", "simulator")
    return request


def _answer(request: SimulatedRequest) -> list[str]:
    """Return the pieces of the answer: the same ones for the same messages."""
    subject = json.encode(request.messages)
    if request.simulator.text is None and (schema := _properties(request.response_format)) is not None:
        return [json.encode(make_up(schema, hashlib.sha256(subject).hexdigest())).decode()]
    words = words_of(request.simulator, subject)
    if request.simulator.text is None and (request.response_format or {}).get("type") in ("json_object", "json_schema"):
        words = ['{"answer":"', *words, '"}']
    limit = request.max_completion_tokens or request.max_tokens
    return words if limit is None else words[:limit]


def _properties(wanted: dict[str, Any] | None) -> Any:
    """Return the schema of the answer that is asked for; None unless it names members."""
    form = (wanted or {}).get("json_schema")
    schema = form.get("schema") if isinstance(form, dict) else None
    return schema if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) else None


def _wanted_tool(request: SimulatedRequest) -> str | None:
    """Return the function to call, if the request offers one and does not bring a result already."""
    functions = [tool["function"] for tool in request.tools or () if isinstance(tool.get("function"), dict)]
    names = [function["name"] for function in functions if isinstance(function.get("name"), str)]
    if not names or request.tool_choice == "none" or request.messages[-1].get("role") == "tool":
        return None
    wanted = request.tool_choice.get("function") if isinstance(request.tool_choice, dict) else None
    return str(wanted.get("name", names[0]) if isinstance(wanted, dict) else names[0])


def _choice(request: SimulatedRequest, index: int, words: list[str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words), "refusal": None}
    if tool := _wanted_tool(request):
        function = {"name": tool, "arguments": "{}"}
        calls = [{"id": f"call_sim_{index}", "type": "function", "function": function}]
        message |= {"content": None, "tool_calls": calls}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(request, words)}


def _finish_reason(request: SimulatedRequest, words: list[str]) -> str:
    if _wanted_tool(request):
        return "tool_calls"
    limit = request.max_completion_tokens or request.max_tokens
    return "length" if limit is not None and len(words) == limit else "stop"


def _usage(request: SimulatedRequest, words: list[str]) -> dict[str, int]:
    prompt, completion = count_message_tokens(request.messages), len(words) * (request.n or 1)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chunks(request: SimulatedRequest, words: list[str]) -> Iterator[dict[str, Any]]:
    base = {"id": "sim-1", "object": "chat.completion.chunk", "created": 0, "model": request.model}

    def chunk(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return base | {"choices": [choice]}

    for index in range(request.n or 1):
        if tool := _wanted_tool(request):
            call = {"index": 0, "id": f"call_sim_{index}", "type": "function"}
            calls = [call | {"function": {"name": tool, "arguments": ""}}]
            yield chunk(index, {"role": "assistant", "tool_calls": calls})
            yield chunk(index, {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})
        else:
            for number, word in enumerate(words):
                yield chunk(index, {"role": "assistant", "content": word} if number == 0 else {"content": word})
        yield chunk(index, {}, _finish_reason(request, words))
    if request.simulator.usage:
        yield base | {"choices": [], "usage": _usage(request, words)}
