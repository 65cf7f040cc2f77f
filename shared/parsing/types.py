"""Kinds of files that text can be taken from, told by name and content type.

Source: the OpenGateLLM contract, section 5.8, and the Vultr contract, section 8.
"""

from pathlib import PurePath
from typing import Final, Literal

from shared.files.errors import UnsupportedFileTypeError
from shared.files.uploads import UploadedFile

FileType = Literal["pdf", "html", "markdown", "text", "docx", "json", "csv"]
_EXTENSIONS: Final[dict[str, FileType]] = {
    ".pdf": "pdf", ".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown", ".txt": "text",
    ".text": "text", ".docx": "docx", ".json": "json", ".csv": "csv",
}  # fmt: skip
_DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_CONTENT_TYPES: Final[dict[FileType, tuple[str, ...]]] = {
    "pdf": ("application/pdf",),
    "html": ("text/html", "application/html", "text/plain"),
    "markdown": ("text/markdown", "text/x-markdown", "application/markdown", "text/plain"),
    "text": ("text/plain", "text/txt"),
    "docx": (_DOCX, "application/zip"),
    "json": ("application/json", "text/json", "text/plain"),
    "csv": ("text/csv", "application/csv", "application/vnd.ms-excel", "text/plain"),
}
_ALONE: Final[dict[str, FileType]] = {
    "application/pdf": "pdf", "text/html": "html", "application/html": "html", "text/markdown": "markdown",
    "text/x-markdown": "markdown", "application/markdown": "markdown", "text/plain": "text", "text/txt": "text",
    _DOCX: "docx", "application/json": "json", "text/json": "json", "text/csv": "csv", "application/csv": "csv",
}  # fmt: skip
_ANY: Final = "application/octet-stream"


def file_type_of(file: UploadedFile, name: str | None = None) -> FileType:
    """Return what the file is, by the extension of its name, or else by its content type.

    Raises `UnsupportedFileTypeError` for what is unknown, and if both contradict.
    """
    by_name = _EXTENSIONS.get(PurePath(file.name).suffix.lower()) or _EXTENSIONS.get(
        PurePath(name or "").suffix.lower()
    )
    found = by_name or _ALONE.get(file.content_type)
    if found is None or file.content_type not in (*_CONTENT_TYPES[found], _ANY):
        raise UnsupportedFileTypeError("file")
    return found
