"""Read server-sent events as providers send them.

CRLF or LF, comments, `data:` with or without a space, cut anywhere.
"""

from collections.abc import AsyncIterator
from typing import Final

from worker.providers.base import ProviderError

DONE: Final = b"[DONE]"
_MAX_EVENT_BYTES: Final = 32 * 1024 * 1024
"""More than one picture in base64 takes."""


async def data_of(reads: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield the data of the events each read completes; several `data` lines of one event are joined by a newline.

    Raises `ProviderError` if an event does not end.
    """
    buffer = b""
    lines: list[bytes] = []
    async for read in reads:
        *complete, buffer = (buffer + read).split(b"\n")
        found = []
        for line in complete:
            if line.startswith(b"data:"):
                lines.append(_value(line))
            elif lines and (not line or line == b"\r"):
                found.append(lines[0] if len(lines) == 1 else b"\n".join(lines))
                lines.clear()
        if found:
            yield found
        if len(buffer) + sum(map(len, lines)) > _MAX_EVENT_BYTES:
            raise ProviderError("An event of the answer is too large.", reason="malformed")
    if buffer.startswith(b"data:"):  # the last line may lack its newline, and its event the empty line
        lines.append(_value(buffer))
    if lines:
        yield [b"\n".join(lines)]


def _value(line: bytes) -> bytes:
    start = 6 if line[5:6] == b" " else 5
    return line[start:-1] if line.endswith(b"\r") else line[start:]
