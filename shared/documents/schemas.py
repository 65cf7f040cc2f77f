"""Wire types of /v1/documents, and the request of the job that fills a document.

Source: the OpenGateLLM contract, sections 3.6, 4.12 and 5.8.
"""

import re
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, json

from shared.chunks.schemas import NewChunk, checked_metadata
from shared.errors import InvalidFieldError
from shared.files.uploads import UploadedFile
from shared.lists import ListQuery
from shared.parsing.types import FileType
from shared.splitting.splitter import Splitting
from shared.unreadable import UNREADABLE

Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Separators = Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=100)]
Preset = Literal[
    "c", "cobol", "cpp", "csharp", "elixir", "go", "haskell", "html", "java", "js", "kotlin", "latex", "lua",
    "markdown", "perl", "php", "powershell", "proto", "python", "r", "rst", "ruby", "rust", "scala", "sol", "swift",
    "ts", "visualbasic6",
]  # fmt: skip
CollectionId = Annotated[int, Meta(ge=1, le=2**31 - 1)]
DEFAULT_SIZE: Final = 2048


class Document(Struct, kw_only=True):
    """A document; `created` in Unix seconds."""

    id: int
    name: str
    collection_id: int
    created: int
    chunks: int
    object: Literal["document"] = "document"


class ListDocumentsQuery(ListQuery, kw_only=True):
    """Query of GET /v1/documents; `required` has no meaning."""

    name: str | None = None
    collection_id: CollectionId | None = None
    required: bool | None = None


class CreateDocumentForm(Struct, kw_only=True):
    """Multipart form of POST /v1/documents; `collection` is another spelling of `collection_id`."""

    file: UploadedFile | None = None
    name: str | None = None
    collection_id: CollectionId | None = None
    collection: CollectionId | None = None
    disable_chunking: bool = False
    chunk_size: Size = DEFAULT_SIZE
    chunk_min_size: Size = 0
    chunk_overlap: Size = 0
    is_separator_regex: bool = False
    separators: Separators = []
    preset_separators: Preset = "markdown"
    metadata: str = ""

    def check(self) -> dict[str, Any] | None:
        """Trim the name and return the metadata; raises `InvalidFieldError` if fields do not fit together."""
        if self.name is not None:
            self.name = self.name.strip()
            if not 1 <= len(self.name) <= 255:
                raise InvalidFieldError(["body", "name"], "Expected 1 to 255 characters")
        if self.file is None and self.name is None:
            raise InvalidFieldError(["body", "name"], "name is required when file is not provided")
        if 0 < self.chunk_size <= self.chunk_overlap and not self.disable_chunking:
            raise InvalidFieldError(["body", "chunk_overlap"], "`chunk_overlap` must be less than `chunk_size`")
        for index, separator in enumerate(self.separators if self.is_separator_regex else ()):
            check_pattern(separator, ["body", "separators", index])
        if not self.metadata.strip():
            return None
        try:
            metadata = json.decode(self.metadata, type=dict[str, Any])
        except UNREADABLE as error:
            raise InvalidFieldError(["body", "metadata"], "metadata must be a JSON object") from error
        return checked_metadata(metadata, ["body", "metadata"])


def check_pattern(pattern: str, loc: list[str | int]) -> None:
    """Raise `InvalidFieldError` if this is no regular expression."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidFieldError(loc, f"Expected a regular expression: {error}") from error


class IngestionRequest(Struct, kw_only=True, omit_defaults=True):
    """What a job of kind `ingestion` is to put into its document; all members were checked."""

    document_id: int
    target_id: int | None = None
    """Document that the chunks go to in the end; None: the one above."""
    form: Literal["document", "chunks", "item", "file"] = "document"
    """What the answer looks like."""
    type: FileType | None = None
    """Of the file in the file store."""
    file: UploadedFile | None = None
    pages: list[str] | None = None
    """Of the file, if they were read before."""
    text: str | None = None
    """Instead of a file."""
    chunks: list[NewChunk] = []
    """Instead of both."""
    splitting: Splitting = Splitting()
    metadata: dict[str, Any] | None = None
    """Of every chunk."""
