"""Requests as nobody should send them, to a running installation: each is answered, none with a fault of ours."""

import asyncio
import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_settings
from tests.fuzz.profile import FUZZED, share_of
from tests.fuzz.strategies import SCALARS, broken, encode, faulty_json
from tests.installation import ADMIN_KEY, Installation, open_installation
from tests.servers import RedisServer

pytestmark = [
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),  # routing is random
    pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader"),
    pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam"),
]
TIMEOUT_S: Final = 30
USER: Final = {"role": "user", "content": "Hello"}
TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL: Final = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT: Final = {
    "model": "simulator",
    "messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "1"}],
    "tools": [TOOL],
    "temperature": 0.5,
    "top_k": 5,
    "top_p": 0,
    "max_tokens": 3,
    "stream": True,
    "n": 2,
    "seed": -1,
    "stream_options": {"include_usage": True},
    "metadata": {"a": "b"},
    "stop": ["x"],
    "logit_bias": {"1": 1},
    "response_format": {"type": "text"},
    "guided_json": "{}",
}
PICTURE: Final = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
PARTS: Final = CHAT | {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, PICTURE]}]}
RESPONSE: Final = {
    "model": "simulator", "instructions": "Be short.", "max_output_tokens": 3, "store": True, "stream": True,
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {}}], "text": {"format": {"type": "text"}},
    "reasoning": {"effort": "low"}, "tool_choice": "auto", "include": [],
}  # fmt: skip
EMBED: Final = {"model": "simulator-embedding", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64"}
LINE: Final = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "simulator", "messages": [USER]},
}
BODIES: Final[dict[str, list[Any]]] = {
    "/v1/chat/completions": [CHAT, PARTS, {"model": "simulator", "messages": [USER]}],
    "/nec/v1/chat/completions": [CHAT | {"messages": json.dumps([USER])}],
    "/vultr/v1/chat/completions": [CHAT],
    "/inflection/v1/chat/completions": [CHAT],
    "/v1/responses": [RESPONSE, {"model": "simulator", "input": "Hi"}],
    "/v1/completions": [{"model": "simulator", "prompt": ["a", "b"], "max_tokens": 2, "echo": False, "logprobs": 1}],
    "/v1/embeddings": [EMBED, EMBED | {"input": [[1, 2], [3]]}, {"model": "simulator-embedding", "messages": [USER]}],
    "/v1/rerank": [{"model": "simulator-rerank", "query": "a", "documents": ["a", "b"], "top_n": 1}],
    "/v1/audio/speech": [{"model": "simulator-speech", "input": "Hi", "voice": "alloy", "speed": 1}],
    "/v1/ocr": [{"model": "simulator-ocr", "document": {"image_url": PICTURE["image_url"]}, "pages": [0]}],
    "/v1/jobs": [
        {
            "endpoint": "/v1/embeddings",
            "body": EMBED,
            "metadata": {},
            "priority": 0,
            "not_before": None,
            "start_timeout": 86400,
            "timeout": 600,
            "max_attempts": 3,
            "result_ttl": 2592000,
            "on_worker_lost": "retry",
        }
    ],
    "/v1/batches": [
        {"requests": [LINE, LINE | {"custom_id": "b"}], "endpoint": LINE["url"], "completion_window": "24h"}
    ],
    "/v1/webhook_endpoints": [{"name": "a", "url": "https://127.0.0.1/", "event_types": ["job.completed"]}],
}
HEADERS: Final[dict[str, list[str]]] = {
    "Prefer": ["respond-async", "wait=0", "respond-async, wait=1", "handling=strict"],
    "Idempotency-Key": ["a", '"a"', "é", "a" * 256],
    "Last-Event-ID": ["1-0", "0", "-1", "9" * 30],
    "traceparent": ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
    "Range": ["bytes=0-5", "bytes=-1"],
    "If-None-Match": ['"1"', "*", 'W/"a", "b"'],
    "Accept": ["text/csv", "application/json", "*/*;q=x"],
    "x-stainless-retry-count": ["1", "٣"],
    "Authorization": ["Bearer x", "Basic x"],
    "User-Agent": ["OpenAI/Python 1"],
    "Content-Type": [
        "application/json; charset=utf-16",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=a",
    ],
    "Content-Encoding": ["gzip", "deflate", "x"],
    "Origin": ["null"],
}


@st.composite
def headers(draw: st.DrawFn) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in draw(st.lists(st.sampled_from(sorted(HEADERS)), max_size=2, unique=True)):
        value = draw(broken(st.sampled_from(HEADERS[name]).map(str.encode), most=1))
        found[name] = bytes(byte for byte in value if byte >= 32 and byte != 127).strip()
    return found


@pytest_asyncio.fixture
async def hurried(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Installation]:
    """A running installation that waits for no body: one whose encoding is damaged has no end."""
    async with open_installation(make_settings(tmp_path, redis_server, body_timeout_s=0.5)) as installation:
        yield installation


class Caller:
    """Sends bytes as they are, one request after the other."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._connection = HTTPConnection(self._address, timeout=TIMEOUT_S)

    def send(self, method: str, path: str, body: bytes | None, given: dict[str, bytes]) -> bytes:
        """Return the body of the answer; fails if the request met a fault of ours."""
        sent = {"Authorization": f"Bearer {ADMIN_KEY}".encode(), "Content-Type": b"application/json"} | given
        try:
            self._connection.request(method, path, body, sent)
            response = self._connection.getresponse()
            answer = response.read()
        finally:
            self._connection.close()
        assert response.status in (*range(200, 500), 503, 504), (method, path, body, given, answer[:200])
        if response.status >= 400 and response.getheader("Content-Type") == "application/json":
            assert json.loads(answer)["error"]["code"] not in (None, "internal_error")
        return answer


async def test_bodies(hurried: Installation) -> None:
    @FUZZED
    @given(st.data())
    def call(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(BODIES)))
        body = data.draw(faulty_json(*BODIES[path]))
        caller.send("POST", path, body, data.draw(headers()))

    caller = Caller(hurried.url)
    await asyncio.to_thread(call)


def form(fields: dict[str, Any], file: bytes) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return b"".join(parts) + head + file + b"\r\n--b--\r\n"


SOUND: Final = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00"
FORMS: Final = {
    "/v1/audio/transcriptions": form({"model": "simulator-transcription", "language": "en", "temperature": 0}, SOUND),
    "/v1/files": form(
        {"purpose": "batch", "expires_after[seconds]": 3600, "expires_after[anchor]": "created_at"}, encode(LINE)
    ),
}
LENGTHS: Final = (
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Encoding: gzip\r\n",
    b"--b",
    b"\r\n\r\n",
)


async def test_forms(hurried: Installation) -> None:
    @FUZZED
    @given(st.sampled_from(sorted(FORMS)), st.data())
    def call(path: str, data: st.DataObject) -> None:
        whole = data.draw(broken(st.just(FORMS[path])))
        place = data.draw(st.integers(0, len(whole)))
        sent = whole[:place] + data.draw(st.sampled_from([b"", b"", *LENGTHS])) + whole[place:]
        caller.send("POST", path, sent, {"Content-Type": b"multipart/form-data; boundary=b"})

    caller = Caller(hurried.url)
    await asyncio.to_thread(call)


async def test_lines_of_batches(hurried: Installation) -> None:
    @share_of(0.5)
    @given(
        st.lists(faulty_json(LINE, LINE | {"custom_id": "b"}), max_size=3),
        st.sampled_from([b"\n", b"\r\n", b"\n\n \n"]),
    )
    def call(lines: list[bytes], end: bytes) -> None:
        made = caller.send("POST", "/v1/files", form({"purpose": "batch"}, end.join(lines)), boundary)
        asked = {"input_file_id": json.loads(made).get("id"), "endpoint": LINE["url"], "completion_window": "24h"}
        caller.send("POST", "/v1/batches", encode(asked), {})

    boundary = {"Content-Type": b"multipart/form-data; boundary=b"}
    caller = Caller(hurried.url)
    await asyncio.to_thread(call)


PATHS: Final = (
    "/v1/jobs",
    "/v1/jobs/{id}",
    "/v1/jobs/{id}/events",
    "/v1/jobs/{id}/result",
    "/v1/chat/completions",
    "/v1/batches",
    "/v1/files",
    "/v1/files/{id}/content",
    "/v1/request_logs",
    "/v1/usage/report",
    "/v1/webhook_endpoints",
    "/v1/queue",
    "/v1/responses/{id}",
    "/v1/responses/{id}/input_items",
    "/v1/models",
    "/v2/inference",
    "/v1/admin/audit",
    "/docs/{id}",
    "/console/{id}",
    "/v1/admin/usage/closes/{id}",
    "/v1/collections",
)
NAMES: Final = (
    "after",
    "before",
    "limit",
    "order",
    "offset",
    "starting_after",
    "wait",
    "metadata[a]",
    "metadata[",
    "status",
    "model",
    "group_by",
    "period",
    "start_time",
    "end_time",
    "cursor",
    "kind",
    "since",
    "until",
    "stream",
    "sort_by",
    "created_after",
    "user",
    "min_latency_ms",
    "per_page",
)
QUERIES: Final = st.dictionaries(
    st.sampled_from(NAMES),
    SCALARS.map(str) | st.sampled_from(["desc", "job_" + "0" * 26, "1-0", "next__9", "2026-11"]),
    max_size=3,
)


async def test_queries(hurried: Installation) -> None:
    job = (await (await hurried.chat()).json())["id"]
    known = [job, job.replace("chatcmpl-", "job_"), "1", "..", "x" * 300, "2026-11"]

    @FUZZED
    @given(
        st.sampled_from(PATHS), st.sampled_from(known) | st.text(max_size=8), QUERIES, headers(), st.binary(max_size=6)
    )
    def call(path: str, name: str, query: dict[str, str], given_: dict[str, bytes], odd: bytes) -> None:
        pairs = [f"{quote(key)}={quote(value, errors='replace')}" for key, value in query.items()]
        text = "&".join([*pairs, quote(odd)] if odd else pairs)
        caller.send("GET", path.format(id=quote(name, safe="") or "-") + ("?" + text if text else ""), None, given_)

    caller = Caller(hurried.url)
    await asyncio.to_thread(call)
