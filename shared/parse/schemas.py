"""Wire types of POST /v1/parse-beta.  Source: the OpenGateLLM contract, sections 3.5 and 4.17."""

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from shared.errors import InvalidFieldError
from shared.files.uploads import UploadedFile
from shared.usage.schemas import Usage

_PART: Final = re.compile(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?")
_MOST_PAGES: Final = 10_000


class ParseForm(Struct, kw_only=True):
    """Multipart form of POST /v1/parse-beta; pages count from 0, as in `0,5-10,20`."""

    file: UploadedFile
    page_range: Annotated[str, Meta(max_length=10_000)] = ""
    force_ocr: bool = False

    def pages(self) -> list[int] | None:
        """Return the pages asked for, in order, each once; None is all.  Raises `InvalidFieldError`."""
        if not self.page_range.strip():
            return None
        wanted = set[int]()
        for part in self.page_range.split(","):
            found = _PART.fullmatch(part)
            if found is None:
                raise bad_range("Expected pages like `0,5-10,20`")
            first, last = int(found[1]), int(found[2] or found[1])
            if last < first or last - first >= _MOST_PAGES:
                raise bad_range("Expected pages like `0,5-10,20`")
            wanted.update(range(first, last + 1))
            if len(wanted) > _MOST_PAGES:
                raise bad_range(f"Expected at most {_MOST_PAGES} pages")
        return sorted(wanted)


def bad_range(message: str) -> InvalidFieldError:
    """Return the refusal of a range of pages."""
    return InvalidFieldError(["body", "page_range"], message)


class PageMetadata(Struct, kw_only=True):
    """Where a page is from; pages count from 0."""

    document_name: str
    page: int


class ParsedDocumentPage(Struct, kw_only=True):
    """One page as markdown; `images` are data URIs by the names that the markdown uses."""

    content: str
    images: dict[str, str]
    metadata: PageMetadata
    object: Literal["documentPage"] = "documentPage"


class ParsedDocument(Struct, kw_only=True):
    """The pages asked for, in order; `usage` is that of reading scanned pages."""

    data: list[ParsedDocumentPage]
    usage: Usage
    object: Literal["list"] = "list"
