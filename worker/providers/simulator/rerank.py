"""Rerank of the simulator: the more words a document shares with the query, the better."""

import re
from typing import Any, Final

from msgspec import Struct

from shared.tokens import count_input_tokens
from worker.providers.base import ProviderCall, ProviderReply
from worker.providers.simulator.script import Script, answer, read_request

_WORD: Final = re.compile(r"\w+")


class SimulatedRequest(Struct, kw_only=True):
    """What the simulator reads of a request."""

    model: str
    query: str
    documents: list[str]
    simulator: Script = Script()


async def rank(call: ProviderCall) -> ProviderReply:
    """Return the scores, in the order of the documents; raises `ProviderError`."""
    request = read_request(call.body, SimulatedRequest)
    wanted = _words(request.query)
    scores = [_score(wanted, _words(document)) for document in request.documents]
    reply: dict[str, Any] = {
        "model": request.model,
        "results": [{"index": index, "relevance_score": score} for index, score in enumerate(scores)],
    }
    if request.simulator.usage:
        tokens = count_input_tokens([request.query, *request.documents])
        reply["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return await answer(request.simulator, call.attempt, reply)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _score(wanted: set[str], found: set[str]) -> float:
    """Return the share of words that both have, of all words of both, 0 to 1."""
    return len(wanted & found) / max(len(wanted | found), 1)
