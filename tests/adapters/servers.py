"""The upstream servers of the suite: for each adapter and operation how it is called and what it answers."""

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from msgspec import Struct

from tests.installation import Installation
from tests.providers import Behaviour, ScriptedProvider, continues, embeds, ranks, responds, says, sends, usage
from tests.recordings import transcribe

KEY = "sk-upstream-0123456789"
PROMPT_TOKENS = 9


class Server(Struct, frozen=True, kw_only=True):
    """One operation of one type of provider."""

    type: str
    operation: str
    router_type: str
    route: str
    """Of Sluice."""
    path: str
    """Of the server."""
    body: dict[str, Any]
    answers: Callable[[bool], Behaviour]
    """Returns a good answer, with its usage or without."""
    reports_usage: bool = True
    options: dict[str, Any] = {}
    """Further members of the provider."""
    is_form: bool = False
    """Called with a recording in a form."""

    def __str__(self) -> str:
        return f"{self.type}-{self.operation}"

    async def register(self, sluice: Installation, provider: ScriptedProvider, **members: Any) -> None:
        """Make it the one provider of the model `public`."""
        provider.default = self.answers(True)
        options = {"type": self.type, "key": KEY, "router_type": self.router_type, "prices": (1, 1)}
        await sluice.add_model("public", provider.url, **options | self.options | members)

    async def call(self, sluice: Installation, **members: Any) -> Any:
        """Have Sluice call it."""
        if self.is_form:
            return await transcribe(sluice, model="public", **self.body, **members)
        return await sluice.post(self.route, {"model": "public"} | self.body | members)


def _chat(has_usage: bool) -> Behaviour:
    return says("one two three", reported=usage(PROMPT_TOKENS, 3) if has_usage else {})


def _completion(has_usage: bool) -> Behaviour:
    return continues("one two three", reported=usage(PROMPT_TOKENS, 3) if has_usage else {})


def _response(has_usage: bool) -> Behaviour:
    numbers = {"input_tokens": PROMPT_TOKENS, "output_tokens": 3, "total_tokens": PROMPT_TOKENS + 3}
    return responds("one two three", reported=numbers if has_usage else {})


def _embedding(has_usage: bool) -> Behaviour:
    return embeds(reported={"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS} if has_usage else {})


def _rerank(has_usage: bool) -> Behaviour:
    return ranks(0.1, 0.9, reported={"total_tokens": PROMPT_TOKENS} if has_usage else None)


def _tei_rerank(_has_usage: bool) -> Behaviour:
    async def behave(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert len(body["texts"]) == 2
        return web.json_response([{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}])

    return behave


def _media(document: dict[str, Any]) -> Callable[[bool], Behaviour]:
    def answers(has_usage: bool) -> Behaviour:
        return sends(json.dumps(document | ({"usage": usage(PROMPT_TOKENS, 3)} if has_usage else {})).encode())

    return answers


def _sound(_has_usage: bool) -> Behaviour:
    return sends(b"ID3 one two three", "audio/mpeg")


_TRANSCRIPT, _PAGES = {"text": "one two three"}, {"pages": [{"index": 0, "markdown": "one two three"}]}
_ANSWERS: dict[str, Callable[[bool], Behaviour]] = {
    "chat": _chat, "completion": _completion, "embedding": _embedding, "rerank": _rerank, "speech": _sound,
    "transcription": _media(_TRANSCRIPT), "ocr": _media(_PAGES),
}  # fmt: skip


def _servers(operation: str, router_type: str, route: str, body: dict[str, Any], **paths: str) -> list[Server]:
    return [
        Server(
            type=kind, operation=operation, router_type=router_type, route=route, path=path, body=body,
            answers=_ANSWERS[operation], reports_usage=operation != "speech", is_form=operation == "transcription",
        )
        for kind, path in paths.items()
    ]  # fmt: skip


_CHAT, _TEXT, _VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_RESPONSES = "/v1/responses"
_HEARING, _SPEECH, _OCR = "/v1/audio/transcriptions", "/v1/audio/speech", "/v1/ocr"
_RANKING = {"query": "one", "documents": ["two", "three"]}

CHATS = _servers(
    "chat", "text-generation", _CHAT, {"messages": [{"role": "user", "content": "Hello"}]},
    openai=_CHAT, vllm=_CHAT, albert=_CHAT, mistral=_CHAT,
)  # fmt: skip
COMPLETIONS = _servers(
    "completion", "text-generation", _TEXT, {"prompt": "Hello"}, openai=_TEXT, vllm=_TEXT, albert=_TEXT
)
RESPONSES = [
    *(
        Server(
            type=kind,
            operation="response",
            router_type="text-generation",
            route=_RESPONSES,
            path=_RESPONSES,
            body={"input": "Hello"},
            answers=_response,
            options={"native_responses": True},
        )
        for kind in ("openai", "vllm", "albert")
    ),
    *(
        Server(
            type=kind,
            operation="response-by-chat",
            router_type="text-generation",
            route=_RESPONSES,
            path=_CHAT,
            body={"input": "Hello"},
            answers=_chat,
        )
        for kind in ("openai", "mistral")
    ),
]
SERVERS = [
    *CHATS,
    *COMPLETIONS,
    *RESPONSES,
    *_servers(
        "embedding", "text-embeddings-inference", _VECTORS, {"input": ["hello", "world"]},
        openai=_VECTORS, vllm=_VECTORS, albert=_VECTORS, mistral=_VECTORS, tei=_VECTORS,
    ),
    *_servers(
        "rerank", "text-classification", "/v1/rerank", _RANKING, vllm="/v2/rerank", albert="/v1/rerank"
    ),
    Server(
        type="tei", operation="rerank", router_type="text-classification", route="/v1/rerank", path="/rerank",
        body=_RANKING, answers=_tei_rerank, reports_usage=False,
    ),
    *_servers(
        "transcription", "automatic-speech-recognition", _HEARING, {"prompt": "names"},
        openai=_HEARING, vllm=_HEARING, albert=_HEARING,
    ),
    Server(
        type="mistral", operation="transcription", router_type="automatic-speech-recognition", route=_HEARING,
        path=_CHAT, body={"prompt": "names"}, answers=_chat, is_form=True,
    ),
    *_servers(
        "speech", "text-to-speech", _SPEECH, {"input": "one two three", "voice": "alloy"}, openai=_SPEECH, vllm=_SPEECH
    ),
    *_servers(
        "ocr", "image-to-text", _OCR, {"document": {"image_url": "data:image/png;base64,iVBORw0KGgo="}},
        albert=_OCR, mistral=_OCR,
    ),
]  # fmt: skip

ERRORS = [
    b'{"error":{"message":"too long","type":"x","param":"input","code":"string_above_max_length"}}',
    b'{"error":"too long","error_type":"Validation"}',
    b'{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}',
    b'{"detail":"too long"}',
    json.dumps({"detail": [{"loc": ["body"], "msg": "too long"}]}).encode(),
    b"too long",
]
"""Refusals as servers word them: OpenAI, text-embeddings-inference, vLLM, FastAPI twice, a proxy."""
