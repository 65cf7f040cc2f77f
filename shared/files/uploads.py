"""A file that came with a form."""

from typing import ClassVar, Final

from msgspec import Struct

HEAD_BYTES: Final = 16


class UploadedFile(Struct, kw_only=True, omit_defaults=True):
    """A file of a multipart form; its bytes are in the file store, under the id of its job."""

    name: str
    """As the caller called it."""
    content_type: str
    """As the caller says, without parameters."""
    size_bytes: int
    sha256: str = ""
    lines: int = 0
    """Line ends in it; of files of /v1/files only."""
    head: bytes = b""
    """Its first bytes, which tell what it is; not part of the stored request."""


class UploadForm(Struct, kw_only=True):
    """A form whose file becomes one of /v1/files, not that of a job."""

    max_file_bytes: ClassVar[int]
