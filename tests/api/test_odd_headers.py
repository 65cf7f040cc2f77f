"""Headers that no client library would send."""

import asyncio
import json
from contextlib import suppress

from yarl import URL

from tests.api.test_bad_input import CHAT, assert_all_settled, chat
from tests.installation import ADMIN_KEY, Installation


async def test_header_bytes_that_are_not_utf_8_break_nothing(both: Installation) -> None:
    for header in (b"X-Other", b"User-Agent", b"Prefer", b"x-client-request-id", b"traceparent"):
        assert await raw_status(both, header + b": \xff\xfe\r\n", chat().encode()) == 200, header
        assert await raw_status(both, header + b": \xff\xfe\r\n", b"{}") == 422, header
    assert await raw_status(both, b"Idempotency-Key: \xff\xfe\r\n", chat().encode()) == 400
    assert await raw_status(both, b"Expect: \xff\xfe\r\n", chat().encode()) == 200
    assert await raw_status(both, b"Expect: 100-Continue\r\n", chat().encode()) == 100
    await assert_all_settled(both, 7)


async def test_a_body_that_is_not_in_its_content_encoding_is_refused(sluice: Installation) -> None:
    assert await raw_status(sluice, b"Content-Encoding: gzip\r\n", chat().encode()) == 400


async def raw_status(installation: Installation, header: bytes, body: bytes) -> int:
    """Return the status of a chat with a header line that no client library would send."""
    url = URL(installation.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\nConnection: close\r\n"
    writer.write(head.encode() + header + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ")[1])


async def test_what_is_no_http_is_refused_without_quoting_it(sluice: Installation) -> None:
    for line in (
        b"Authorization: Bearer sk-very-secret\x01",
        b"X-Large: sk-very-secret" + 17_000 * b"x",
        b"sk-very-secret",
    ):
        answer = await exchange(sluice, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")

        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 400 " in head.splitlines()[0]
        assert json.loads(body)["error"]["code"] == "bad_request"
        assert b"secret" not in answer
        assert b"aiohttp" not in answer


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(sluice: Installation) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Length: 40000000\r\n\r\n"

    assert (await exchange(sluice, head.encode())).startswith(b"HTTP/1.1 413 ")


async def test_no_answer_tells_versions_or_lets_media_types_be_guessed(sluice: Installation) -> None:
    for path in ("/health/live", "/openapi.json", "/v1/models", "/nowhere", "/console/", "/"):
        answer = await sluice.client.get(path)

        assert answer.headers["Server"] == "Sluice", path
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path


async def exchange(installation: Installation, sent: bytes) -> bytes:
    """Return all that comes until the connection is closed, or 5 s."""
    url = URL(installation.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(sent)
    answer = bytearray()
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while piece := await reader.read(65536):
                answer += piece
    writer.close()
    return bytes(answer)
