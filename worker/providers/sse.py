"""Read server-sent events as providers send them.

CRLF or LF, comments, `data:` with or without a space, cut anywhere.
"""

from collections.abc import AsyncIterator
from typing import Final

DONE: Final = b"[DONE]"


async def data_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each event; several `data` lines of one event are joined by a newline."""
    buffer = b""
    lines: list[bytes] = []
    async for chunk in chunks:
        buffer += chunk
        *complete, buffer = buffer.split(b"\n")
        for line in complete:
            if (data := _feed(line.rstrip(b"\r"), lines)) is not None:
                yield data
    _feed(buffer.rstrip(b"\r"), lines)  # the last line may lack its newline, and its event the empty line
    if lines:
        yield b"\n".join(lines)


def _feed(line: bytes, lines: list[bytes]) -> bytes | None:
    """Take one line; returns the data of the event it completes."""
    if line.startswith(b"data:"):
        lines.append(line[6:] if line[5:6] == b" " else line[5:])
    elif not line and lines:
        data = b"\n".join(lines)
        lines.clear()
        return data
    return None
