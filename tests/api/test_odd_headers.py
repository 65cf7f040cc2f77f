"""Headers that no client library would send."""

import asyncio

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
