"""Documents inside of a request: data URIs, checked and, if they are long, kept in the file store."""

import asyncio
import binascii
from typing import Any, Final

from msgspec import Raw, json

from shared.errors import InvalidFieldError
from shared.files.errors import MAX_FILE_BYTES, FileTooLargeError, UnsupportedFileTypeError
from shared.ocr.formats import fits
from shared.ocr.schemas import OcrDocument

STORED: Final = "stored:"
"""Begins what stands for a data URI that is in the file store, under the id of the job; the bytes it holds follow.  No
caller can send it."""
INLINE_CHARACTERS: Final = 4096
"""A longer data URI goes to the file store."""
_PIECE: Final = 1024 * 1024
_MEMBERS: Final = json.Decoder(dict[str, Raw])
_DOCUMENTS: Final = ("image/", "application/", "text/")


async def check_data_uri(document: OcrDocument, uri: str) -> None:
    """Raise `InvalidFieldError`, `UnsupportedFileTypeError` or `FileTooLargeError` for what cannot be read.

    So it is with what is not what it is said to be.  Large ones are looked at piece by piece, so that others have their
    turn.
    """
    place: list[str | int] = ["body", "document", document.member]
    head, comma, data = uri.partition(",")
    if not comma or not head.lower().endswith(";base64") or not data:
        raise InvalidFieldError(place, "Expected a data URI in base64")
    media_type = head[len("data:") :].partition(";")[0].lower()
    if not media_type.startswith(_DOCUMENTS if document.member == "document_url" else "image/"):
        raise UnsupportedFileTypeError("document")
    if size_of(uri) > MAX_FILE_BYTES:
        raise FileTooLargeError
    if len(data) % 4:
        raise InvalidFieldError(place, "The data is not base64")
    for start in range(0, len(data), _PIECE):
        try:
            piece = binascii.a2b_base64(data[start : start + _PIECE], strict_mode=True)
        except ValueError as error:
            raise InvalidFieldError(place, "The data is not base64") from error
        if not start and not fits(media_type, piece):
            raise UnsupportedFileTypeError("document")
        await asyncio.sleep(0)


def size_of(uri: str) -> int:
    """Return how many bytes a data URI holds."""
    start = uri.index(",") + 1
    padding = len(uri) - len(uri.rstrip("="))
    return (len(uri) - start) * 3 // 4 - padding


def with_url(body: bytes, document: OcrDocument, url: str) -> bytes:
    """Return the request with another URL for its document."""
    members = _MEMBERS.decode(body)
    changed: dict[str, Any] = json.decode(members["document"], type=dict[str, Any])
    if isinstance(changed[document.member], dict):
        changed[document.member]["url"] = url
    else:
        changed[document.member] = url
    members["document"] = Raw(json.encode(changed))
    return json.encode(members)
