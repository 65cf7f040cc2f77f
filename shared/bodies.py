"""Read what a server sends, up to a limit."""

from aiohttp import StreamReader


async def read_at_most(content: StreamReader, most_bytes: int) -> bytes:
    """Return the body, or its first bytes if it is longer; one read alone gives only what has arrived by then."""
    body = bytearray()
    while len(body) < most_bytes and (piece := await content.read(most_bytes - len(body))):
        body += piece
    return bytes(body)
