"""Streams of providers: whatever comes, in whatever pieces, ends in an answer or in `ProviderError`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from shared.chat.schemas import ChatCompletion, ChatCompletionChunk
from shared.completions.schemas import Completion, CompletionChunk
from shared.dialects import MOUNTS
from shared.responses.schemas import Response
from tests.fuzz.profile import FUZZED
from tests.fuzz.strategies import broken, encode, faulty, pieces
from tests.fuzz.test_answers import ASKED, CALL, INFER, LOGPROBS, NATIVE, RESPOND, USAGE, read
from tests.fuzz.upstream import Answer, Ran
from worker.providers.sse import data_of

CUTS: Final = st.lists(st.integers(0, 10_000), max_size=5)
CHUNKS: Final = [
    {"id": "up", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "Hello"}, "logprobs": LOGPROBS}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [CALL | {"index": 0}, CALL | {"index": 1}]}}]},
    {"choices": [{"index": 1, "delta": {"refusal": "No."}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
]
TEXTS: Final = [
    {
        "choices": [
            {"index": 0, "text": "Hello", "finish_reason": None, "logprobs": {"tokens": ["a"], "text_offset": [0]}}
        ]
    },
    {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": USAGE},
]
EVENTS: Final = [
    {"type": "response.created", "sequence_number": 0, "response": NATIVE},
    {"type": "response.output_item.added", "sequence_number": 1, "output_index": 1, "item": NATIVE["output"][1]},
    {
        "type": "response.content_part.added", "sequence_number": 2, "output_index": 1, "content_index": 0,
        "item_id": "i", "part": {"type": "output_text", "text": ""},
    },
    {
        "type": "response.output_text.delta", "sequence_number": 3, "output_index": 1, "content_index": 0,
        "item_id": "i", "delta": "Hello",
    },
    {"type": "response.output_item.done", "sequence_number": 4, "output_index": 1, "item": NATIVE["output"][1]},
    {"type": "error", "sequence_number": 5, "message": "no", "code": "c"},
    {"type": "response.completed", "sequence_number": 6, "response": NATIVE},
]  # fmt: skip


def stream_of(events: Any) -> bytes:
    found = events if isinstance(events, list) else [events]
    return b"".join(b"data: " + encode(event) + b"\n\n" for event in found) + b"data: [DONE]\n\n"


def faulty_stream(*events: list[Any]) -> st.SearchStrategy[Answer]:
    near = faulty(*events).map(stream_of)
    whole = near | near | broken(near) | broken(st.sampled_from(events).map(stream_of)) | st.binary(max_size=64)
    return st.builds(Answer, whole, headers=st.just({"Content-Type": "text/event-stream"}), cuts=CUTS)


def follow(kind: str, request: Any, answer: Answer, whole: Any = None, piece: Any = None, **options: Any) -> Ran | None:
    ran = read(kind, request | {"stream": True}, answer, whole, **options)
    if ran is not None:
        for data in ran.sent if piece is not None else ():
            json.decode(data, type=piece)
    return ran


@FUZZED
@given(faulty_stream(CHUNKS), st.sampled_from(["openai", *MOUNTS]), st.sampled_from([None, 2]))
def test_chats(answer: Answer, dialect: str, n: int | None) -> None:
    is_exact = dialect != "inflection"  # whose deltas have no null
    piece = ChatCompletionChunk if is_exact else dict[str, Any]

    follow("chat.completion", ASKED | {"n": n}, answer, ChatCompletion, piece, dialect=dialect)


@FUZZED
@given(faulty_stream(CHUNKS))
def test_chats_of_inflection(answer: Answer) -> None:
    follow("inference", INFER, answer, dict[str, Any], dialect="inflection")


@FUZZED
@given(faulty_stream(TEXTS))
def test_completions(answer: Answer) -> None:
    follow("completion", {"model": "public", "prompt": "a"}, answer, Completion, CompletionChunk)


def hold_numbers(ran: Ran | None) -> None:
    if ran is not None:
        numbers = [json.decode(data)["sequence_number"] for data in ran.sent]
        assert numbers == list(range(1, len(numbers) + 1))


@FUZZED
@given(faulty_stream(CHUNKS))
def test_responses_by_chat(answer: Answer) -> None:
    hold_numbers(follow("response", RESPOND, answer, Response))


@FUZZED
@given(faulty_stream(EVENTS, [event for event in EVENTS if event["type"] != "error"]))
def test_native_responses(answer: Answer) -> None:
    hold_numbers(follow("response", RESPOND, answer, Response, native=True))


@FUZZED
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "data:", "", " ", "[DONE]", ":", "é", "id: 1"]), min_size=1).map("".join),
        max_size=4,
    ),
    st.sampled_from(["\n", "\r\n"]),
    CUTS,
)
def test_events_are_the_same_in_whatever_pieces_they_come(events: list[str], end: str, cuts: list[int]) -> None:
    sent = "".join(f": comment{end}data: {event}{end}{end}" for event in events).encode()

    assert asyncio.run(events_of(pieces(sent, cuts))) == [event.encode() for event in events]


@FUZZED
@given(broken(st.just(stream_of(CHUNKS)), most=6), CUTS)
def test_cuts_make_no_difference(sent: bytes, cuts: list[int]) -> None:
    assert asyncio.run(events_of(pieces(sent, cuts))) == asyncio.run(events_of([sent]))


async def events_of(reads: list[bytes]) -> list[bytes]:
    async def arriving() -> AsyncIterator[bytes]:
        for read_ in reads:
            yield read_

    return [event async for batch in data_of(arriving()) for event in batch]


def test_the_examples_are_understood_when_nothing_is_wrong() -> None:
    """What the faults are put into is what providers send: else nothing would be tested."""
    fine = [event for event in EVENTS if event["type"] != "error"]
    cases: list[tuple[str, Any, list[Any], dict[str, Any]]] = [
        ("chat.completion", ASKED, CHUNKS, {}), ("inference", INFER, CHUNKS, {}), ("response", RESPOND, CHUNKS, {}),
        ("completion", {"model": "public", "prompt": "a"}, TEXTS, {}), ("response", RESPOND, fine, {"native": True}),
    ]  # fmt: skip
    for kind, request, events, options in cases:
        assert follow(kind, request, Answer(stream_of(events)), **options) is not None, kind
