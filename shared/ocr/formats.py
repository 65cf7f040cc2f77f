"""Tell by its first bytes whether a document is what it is said to be: an image, or a PDF.

Source: the signatures of the formats' own specifications; a PDF may begin anywhere in its first 1,024 bytes.
"""

from typing import Final

HEAD_BYTES: Final = 1024
"""Are enough to tell."""
_IMAGES: Final = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",  # TIFF, in either byte order
    b"MM\0*",
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000
    b"\xff\x0a",  # JPEG XL
    b"\0\0\0\x0cJXL \r\n\x87\n",
)
_HEIF: Final = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"})
_PDF: Final = b"%PDF-"
_ANY: Final = "application/octet-stream"


def fits(media_type: str, head: bytes) -> bool:
    """Return whether these first bytes may be of this type; of one that is neither image nor PDF, any may."""
    if media_type == "application/pdf":
        return _is_pdf(head)
    if media_type == _ANY:
        return _is_pdf(head) or _is_image(head)
    return not media_type.startswith("image/") or _is_image(head)


def _is_pdf(head: bytes) -> bool:
    return _PDF in head[:HEAD_BYTES]


def _is_image(head: bytes) -> bool:
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_IMAGES) or is_webp or (head[4:8] == b"ftyp" and head[8:12] in _HEIF)
