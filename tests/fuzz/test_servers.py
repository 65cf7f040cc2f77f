"""What else is read of servers: looks at providers, searches of the web, answers kept in Redis, bodies for logs."""

import asyncio
from types import SimpleNamespace
from typing import Any, Final, cast

from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json, msgpack
from redis.asyncio import Redis

from api.probe import Found, ProviderNotReachableError, Target, probe
from api.web_search import SearXNG, WebSearchFailedError
from shared.request_logs.redaction import redact_body
from shared.vocabularies import Vocabulary
from tests.fuzz.profile import FUZZED
from tests.fuzz.strategies import broken, faulty_json
from tests.fuzz.upstream import Answer, Transport
from worker.response_cache import CachedReply, find_reply

MODELS: Final = {
    "object": "list",
    "data": [{"id": "m", "aliases": ["n"], "max_model_len": 10, "max_context_length": 10, "embedding": [0.5, 1.0]}],
}
INFO: Final = {"model_id": "m", "max_input_length": 512}
STATUSES: Final = st.sampled_from([200, 200, 200, 404])


def http_of(body: bytes, status: int) -> ClientSession:
    return cast("ClientSession", Transport(Answer(body, status)))


@FUZZED
@given(
    faulty_json(MODELS, INFO | MODELS), STATUSES, st.sampled_from(["openai", "vllm", "albert", "mistral", "tei"]),
    st.sampled_from(["text-generation", "text-embeddings-inference"]),
)  # fmt: skip
def test_looks_at_providers(body: bytes, status: int, provider_type: str, router_type: str) -> None:
    target = Target(type=provider_type, url="http://upstream/", key="k", model_name="m", router_type=router_type)
    try:
        found = asyncio.run(probe(http_of(body, status), target))
    except ProviderNotReachableError:
        return
    assert isinstance(found, Found)
    assert all(one is None or -(2**31) <= one < 2**31 for one in (found.max_context_length, found.vector_size))


@FUZZED
@given(faulty_json({"results": [{"title": "a", "url": "https://a.example/", "content": "b"}] * 7}), STATUSES, st.text())
def test_searches_of_the_web(body: bytes, status: int, question: str) -> None:
    try:
        found = asyncio.run(SearXNG(http_of(body, status), "http://search").search(question))
    except WebSearchFailedError:
        return
    assert found is None or found.startswith("[1]")


@FUZZED
@given(broken(st.just(msgpack.encode(CachedReply(b"{}", 1, 2)))) | st.binary(max_size=30))
def test_kept_answers(kept: bytes) -> None:
    async def get(_key: str) -> bytes:
        return kept

    found = asyncio.run(find_reply(cast("Redis", SimpleNamespace(get=get)), "key"))

    assert found is None or isinstance(found.body, bytes)


SECRET: Final = {"messages": [{"content": "s3cret", "other": 1}], "password": {"deep": ["s3cret"]}}


@FUZZED
@given(faulty_json(SECRET), st.integers(0, 200))
def test_bodies_for_the_log(body: bytes, length: int) -> None:
    shown = redact_body(body[:length], frozenset({"password"}))

    if shown not in (b"", b"***") and shown != body[:length]:
        members: Any = json.decode(shown)
        assert not isinstance(members, dict) or members.get("password", "***") == "***"


TOKENS: Final = Vocabulary("own", (b"a", b" b", None, b"\xc3", b"\xa9"))


@FUZZED
@given(st.lists(st.integers(0, 6) | st.sampled_from([2**31 - 1]), max_size=6), st.text(max_size=20), st.integers(0, 5))
def test_token_ids(ids: list[int], text: str, most: int) -> None:
    try:
        assert TOKENS.to_text(ids).encode() == b"".join(TOKENS.tokens[one] or b"" for one in ids)
    except ValueError:
        assert any(one > 4 or TOKENS.tokens[one] is None for one in ids) or 3 in ids or 4 in ids
    assert text.startswith(TOKENS.cut(text, most, frozenset({b" b", b"\xc3\xa9"})))
