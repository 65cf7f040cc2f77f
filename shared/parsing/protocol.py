"""What a parser process is asked, and what it answers: one MessagePack document after its length, each way.

The bytes of a file follow their question as they are, so that nobody has to copy them at once.
"""

import struct
from typing import Final

from msgspec import Struct, msgpack

from shared.parsing.types import FileType
from shared.retrieval.terms import Bag, Language
from shared.splitting.splitter import Splitting

LENGTH: Final = struct.Struct(">I")


class ParsedPage(Struct, array_like=True):
    """One page of a file; other files than PDF have one."""

    number: int
    """From 0."""
    text: str
    """Markdown, or the text as it is."""
    images: dict[str, bytes] = {}
    """Name → JPEG."""
    is_scanned: bool = False
    """It holds images and no text."""


class ParsedChunk(Struct, array_like=True):
    """One chunk of a file."""

    text: str
    page: int | None
    bag: Bag


class ParseRequest(Struct, kw_only=True, omit_defaults=True):
    """Read a file or texts, and cut them if `splitting` is there."""

    type: FileType | None = None
    data: bytes = b""
    """Not sent with the other members."""
    data_bytes: int = 0
    """Of the file, which follows."""
    texts: list[str] | None = None
    """Instead of a file: pages that were read before, or chunks."""
    pages: list[int] | None = None
    """Only these; None is all."""
    with_images: bool = False
    """Take the images of the pages, too."""
    as_pictures: bool = False
    """Draw the pages instead of reading them: each becomes one image."""
    splitting: Splitting | None = None
    are_chunks: bool = False
    """Each of the texts is a chunk already."""
    language: Language = "english"


class ParseAnswer(Struct, kw_only=True, omit_defaults=True):
    """What was found, or why nothing was."""

    pages: list[ParsedPage] = []
    chunks: list[ParsedChunk] = []
    page_count: int = 0
    """Of the file, also if only some pages were asked for."""
    error: str | None = None


def encode(message: ParseRequest | ParseAnswer) -> bytes:
    """Return the message with its length."""
    body = msgpack.encode(message)
    return LENGTH.pack(len(body)) + body
