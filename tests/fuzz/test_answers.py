"""Whole answers of providers: a job gets a document of its declared form out of them, or `ProviderError`."""

import asyncio
from base64 import b64decode
from contextlib import suppress
from json import loads
from math import isfinite
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from shared.audio.schemas import AudioTranscription
from shared.chat.schemas import ChatCompletion
from shared.completions.schemas import Completion
from shared.dialects import MOUNTS
from shared.rerank.schemas import Reranks
from shared.responses.schemas import Response
from tests.fuzz.profile import FUZZED
from tests.fuzz.strategies import faulty_json
from tests.fuzz.upstream import Answer, Ran, run
from worker.context import TokenCount
from worker.providers.base import ProviderError

USAGE: Final = {
    "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
LOGPROBS: Final = {
    "content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": None}]}]
}
CHOICE: Final = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}
CHAT: Final = {
    "id": "up", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
    "choices": [CHOICE | {"logprobs": LOGPROBS}],
}  # fmt: skip
CALLS: Final = CHAT | {"choices": [CHOICE | {"message": {"content": None, "tool_calls": [CALL, CALL]}}]}
VERDICT: Final = '{"a0": {"score": 0.5, "positive": true}}'
JUDGED: Final = CHAT | {"choices": [CHOICE | {"message": {"role": "assistant", "content": VERDICT}}]}
TEXT: Final = CHAT | {"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}]}
NATIVE: Final = {
    "id": "up", "object": "response", "status": "completed",
    "output": [
        {"id": "r", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        {
            "id": "i", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
        },
        {"id": "f", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ],
    "usage": {
        "input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 1},
        "output_tokens_details": {"reasoning_tokens": 2},
    },
    "error": None, "incomplete_details": {"reason": "max_output_tokens"},
}  # fmt: skip
VECTORS: Final = {
    "data": [{"embedding": [0.5, -1.0], "index": 0}, {"embedding": "AAAAPwAAgL8=", "index": 1}],
    "usage": USAGE,
}
RANKS: Final = {
    "results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.1}], "usage": USAGE,
}  # fmt: skip
PAGES: Final = {
    "pages": [{"index": 0, "markdown": "a", "dimensions": None, "images": [{"id": "a", "top_left_x": 1}]}],
    "usage_info": {"pages_processed": 1}, "usage": USAGE, "document_annotation": None,
}  # fmt: skip
TRANSCRIPT: Final = {
    "text": "Hello", "language": "en", "duration": 1.5, "words": None, "usage": {"input_tokens": 9, "output_tokens": 3},
    "segments": [{"id": 0, "text": "Hello", "start": 0.0, "end": 1.5}],
}  # fmt: skip
ASKED: Final = {"model": "public", "messages": [{"role": "user", "content": "Hello"}]}
INFER: Final = {"config": "public", "context": [{"type": "Human", "text": "Hello"}]}
JUDGE: Final = ASKED | {
    "messages": [*ASKED["messages"], {"role": "assistant", "content": "Hello"}],
    "attributes": [{"name": "a", "definition": "b"}],
}
EMBED: Final = {"model": "public", "input": ["a", "b"]}
RANK: Final = {"model": "public", "query": "q", "documents": ["a", "b"]}
RESPOND: Final = {
    "model": "public",
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}],
}
FILE: Final = {"name": "a.wav", "content_type": "audio/wav", "size_bytes": 12, "sha256": "", "lines": 0, "head": ""}
LISTEN: Final = {"model": "public", "file": FILE}


def read(kind: str, request: Any, answer: Answer, returns: Any = None, **options: Any) -> Ran | None:
    """Return what a job gets; None if the provider is to blame.  Any other exception is a bug."""
    with suppress(ProviderError):
        ran = asyncio.run(run(kind, request, answer, **options))
        hold(ran.produced.tokens)
        if returns is not None:
            json.decode(ran.body, type=returns)
        return ran
    return None


def hold(tokens: TokenCount) -> None:
    """Check that the ledger can hold these numbers."""
    for number in (tokens.prompt, tokens.completion, tokens.cached, tokens.reasoning):
        assert 0 <= number < 2**53


def whole(body: bytes) -> Answer:
    return Answer(body, headers={"Content-Type": "application/json"})


@FUZZED
@given(
    faulty_json(CHAT, CALLS), st.sampled_from(["openai", "inflection-legacy", *MOUNTS]), st.sampled_from([None, 1, 2])
)
def test_chats(body: bytes, dialect: str, n: int | None) -> None:
    is_plain = dialect != "inflection-legacy"  # which leaves out members that others have
    returns = ChatCompletion if is_plain else dict[str, Any]

    read("chat.completion", ASKED | {"n": n}, whole(body), returns, dialect=dialect)


@FUZZED
@given(faulty_json(CHAT, JUDGED), st.sampled_from(["inference", "chat.attributes"]))
def test_chats_of_inflection(body: bytes, kind: str) -> None:
    ran = read(kind, INFER if kind == "inference" else JUDGE, whole(body), dialect="inflection")

    assert ran is None or isinstance(ran.document, dict)


@FUZZED
@given(faulty_json(TEXT))
def test_completions(body: bytes) -> None:
    read("completion", {"model": "public", "prompt": "a"}, whole(body), Completion)


@FUZZED
@given(faulty_json(CHAT, CALLS))
def test_responses_by_chat(body: bytes) -> None:
    ran = read("response", RESPOND, whole(body), Response)

    assert ran is None or ran.document["output"]


@FUZZED
@given(faulty_json(NATIVE))
def test_native_responses(body: bytes) -> None:
    ran = read("response", RESPOND, whole(body), Response, native=True)

    if ran is not None:
        numbers = [json.decode(data)["sequence_number"] for data in ran.sent]
        assert numbers == list(range(1, len(numbers) + 1))


@FUZZED
@given(faulty_json(VECTORS), st.sampled_from(["float", "base64"]), st.sampled_from([None, 2]))
def test_embeddings(body: bytes, form: str, dimensions: int | None) -> None:
    asked = EMBED | {"encoding_format": form, "dimensions": dimensions}
    ran = read("embedding", asked, whole(body))

    if ran is not None:  # a number may be larger than JSON's readers take: it is not looked at
        vectors = [one["embedding"] for one in loads(ran.body)["data"]]
        assert len(vectors) == 2
        if form == "base64":
            assert all(b64decode(vector, validate=True) for vector in vectors)
        else:
            assert all(isinstance(number, int | float) for vector in vectors for number in vector)


@FUZZED
@given(
    faulty_json(RANKS),
    faulty_json([{"index": 1, "score": 0.5}, {"index": 0, "score": 0.1}]),
    st.sampled_from(["vllm", "albert", "tei"]),
)
def test_rankings(body: bytes, of_tei: bytes, provider_type: str) -> None:
    answer = whole(of_tei if provider_type == "tei" else body)
    ran = read("rerank", RANK, answer, Reranks, provider_type=provider_type)

    if ran is not None:
        scores = [one["relevance_score"] for one in ran.document["results"]]
        assert scores == sorted(scores, reverse=True)
        assert all(isfinite(score) for score in scores)


@FUZZED
@given(faulty_json(PAGES), st.sampled_from(["https://a.example/a.pdf", "data:image/png;base64,iVBORw0KGgo="]))
def test_recognised_pages(body: bytes, url: str) -> None:
    request = {"model": "public", "document": {"type": "document_url", "document_url": url}}

    ran = read("ocr", request, whole(body), provider_type="mistral")

    if ran is not None:  # what a provider says of its pages is passed on as it is
        assert all({"index", "markdown", "images"} <= page.keys() for page in ran.document["pages"])


@FUZZED
@given(
    faulty_json(TRANSCRIPT), st.sampled_from(["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]),
    st.sampled_from(["openai", "vllm", "albert"]),
)  # fmt: skip
def test_transcripts(body: bytes, wanted: str, provider_type: str) -> None:
    request = LISTEN | {"response_format": wanted}
    ran = read("audio.transcription", request, whole(body), provider_type=provider_type)

    if ran is not None and wanted.endswith("json"):
        assert isinstance(ran.document["text"], str)
    elif ran is not None:
        assert isinstance(ran.body.decode(), str)


@FUZZED
@given(faulty_json(CHAT, CHAT | {"choices": [{"message": {"content": [{"text": "a"}]}}]}))
def test_transcripts_by_chat(body: bytes) -> None:
    read("audio.transcription", LISTEN, whole(body), AudioTranscription, provider_type="mistral")


@FUZZED
@given(st.binary(max_size=20), st.text(max_size=20) | st.sampled_from(["audio/mpeg", "text/html", "application/json"]))
def test_sounds(body: bytes, content_type: str) -> None:
    ran = read(
        "audio.speech", {"model": "public", "input": "Hello"}, Answer(body, headers={"Content-Type": content_type})
    )

    assert ran is None or ran.body == body


ERROR: Final = {"error": {"message": "no", "type": "t", "param": "n", "code": "c"}, "detail": [{"msg": "no"}]}
DATES: Final = (
    "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT", "Mon, 01 Jan 0001 00:00:00 +2359",
    "Wed, 21 Oct 2026 07:28:00 +99999999999", "21 Oct 2026", "0", "1e999", "nan", "-5", "120", "٣",
)  # fmt: skip


@FUZZED
@given(
    faulty_json(ERROR, {"message": "no", "code": 404}, {"detail": "no"}), st.integers(201, 599),
    st.sampled_from(DATES).flatmap(lambda date: st.just(date) | st.text(date, max_size=12)) | st.text(max_size=30),
)  # fmt: skip
def test_refusals(body: bytes, status: int, retry_after: str) -> None:
    answer = Answer(body, status, {"Retry-After": retry_after})

    with pytest.raises(ProviderError) as refused:
        asyncio.run(run("chat.completion", ASKED, answer))

    error = refused.value
    assert error.status == status
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 120
    assert all(text is None or isinstance(text, str) for text in (error.message, error.code, error.param))
    assert "http://upstream" not in error.message


def test_the_examples_are_understood_when_nothing_is_wrong() -> None:
    """What the faults are put into is what providers send: else nothing would be tested."""
    cases: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("chat.completion", ASKED, CHAT, {}), ("chat.completion", ASKED, CALLS, {}),
        ("completion", {"model": "public", "prompt": "a"}, TEXT, {}), ("response", RESPOND, CALLS, {}),
        ("response", RESPOND, NATIVE, {"native": True}), ("embedding", EMBED, VECTORS, {}),
        ("ocr", {"document": {"type": "document_url", "document_url": "https://a.example/"}}, PAGES, {}),
        ("rerank", RANK, RANKS, {"provider_type": "vllm"}), ("audio.transcription", LISTEN, TRANSCRIPT, {}),
        ("audio.transcription", LISTEN, CHAT, {"provider_type": "mistral"}),
    ]  # fmt: skip
    for kind, request, answer, options in cases:
        assert read(kind, request, whole(json.encode(answer)), **options) is not None, kind
