"""A process that is about to end: whoever keeps a connection to it learns so before it is closed, not by that."""

import asyncio

from yarl import URL

from tests.installation import ADMIN_KEY, Installation

CHAT = (
    b'{"model":"simulator","messages":[{"role":"user","content":"Hi"}],"stream":true,"simulator":{"chunk_delay_ms":50}}'
)


def head(first_line: str, length: int = 0) -> bytes:
    lines = [first_line + " HTTP/1.1", "Host: x", f"Authorization: Bearer {ADMIN_KEY}", f"Content-Length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_a_connection_whose_stream_has_begun_takes_one_more_request(sluice: Installation) -> None:
    url = URL(sluice.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head("POST /v1/chat/completions", len(CHAT)) + CHAT)
    begun = await reader.readuntil(b"\r\n\r\n")

    sluice.state.leaving.set()
    events = await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    writer.write(head("GET /v1/models"))
    answer = await reader.read()
    writer.close()

    assert b"connection: close" not in begun.lower()
    assert events.count(b"data: ") > 2
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_a_process_that_leaves_is_alive(sluice: Installation) -> None:
    sluice.state.leaving.set()

    assert (await sluice.client.get("/health")).status == 503
    assert (await sluice.client.get("/health/live")).status == 200
