"""Wire types of chunks, their metadata, and filters on it.  Source: the OpenGateLLM contract, sections 3.6 and 4.12."""

from math import isfinite
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from shared.errors import InvalidFieldError
from shared.lists import PageQuery

MetadataValue = str | int | float | bool
_LARGEST: Final = 9_999_999_999_999_999
_LONGEST: Final = 255
_MOST_ENTRIES: Final = 10
MAX_ADDED_CHUNKS: Final = 64
MAX_ADDED_CHARACTERS: Final = 20 * 1024 * 1024
ComparisonType = Literal["eq", "sw", "ew", "co"]


class Chunk(Struct, kw_only=True):
    """A piece of a document; `id` counts from 0 within it, `page` too, if the file had pages."""

    id: int
    collection_id: int
    document_id: int
    content: str
    metadata: dict[str, Any] | None
    created: int
    page: int | None
    object: Literal["chunk"] = "chunk"


class NewChunk(Struct, kw_only=True):
    """A chunk to add."""

    content: Annotated[str, Meta(min_length=1, pattern=r"^[^\x00]*$")]
    metadata: dict[str, Any] | None = None


class CreateChunksRequest(Struct, kw_only=True):
    """Body of POST /v1/documents/{document_id}/chunks."""

    chunks: Annotated[list[NewChunk], Meta(min_length=1, max_length=MAX_ADDED_CHUNKS)]

    def check(self) -> None:
        """Raise `InvalidFieldError` if metadata or sizes are out of bounds."""
        if sum(len(chunk.content) for chunk in self.chunks) > MAX_ADDED_CHARACTERS:
            raise InvalidFieldError(["body", "chunks"], "Chunks content total size exceeds 20MB")
        for index, chunk in enumerate(self.chunks):
            if chunk.metadata is not None:
                chunk.metadata = checked_metadata(chunk.metadata, ["body", "chunks", index, "metadata"])


class CreatedChunks(Struct, kw_only=True):
    """The ids that new chunks got."""

    document_id: int
    ids: list[int]


class ListChunksQuery(PageQuery, kw_only=True):
    """Query of the chunks of a document; `required` has no meaning."""

    required: bool | None = None


class RequiredQuery(Struct, kw_only=True):
    """`required` is accepted and has no meaning."""

    required: bool | None = None


class ComparisonFilter(Struct, kw_only=True):
    """One entry of the metadata: equal, starts with, ends with, contains."""

    key: str
    type: ComparisonType
    value: MetadataValue


class Filter(Struct, kw_only=True):
    """A comparison (`key`, `type`, `value`), or two to four of them (`filters`, `operator`)."""

    key: str | None = None
    type: ComparisonType | None = None
    value: MetadataValue | None = None
    filters: Annotated[list[ComparisonFilter], Meta(min_length=2, max_length=4)] | None = None
    operator: Literal["and", "or"] | None = None

    def comparisons(self, loc: list[str | int]) -> list[ComparisonFilter]:
        """Return the comparisons with checked keys and values; raises `InvalidFieldError`."""
        if self.filters is not None:
            if self.operator is None:
                raise InvalidFieldError([*loc, "operator"], "`operator` is needed with `filters`")
            return [_checked(one, [*loc, "filters", index]) for index, one in enumerate(self.filters)]
        if self.key is None or self.type is None or self.value is None:
            raise InvalidFieldError(loc, "`key`, `type` and `value`, or `filters` and `operator` are needed")
        return [_checked(ComparisonFilter(key=self.key, type=self.type, value=self.value), loc)]


def _checked(one: ComparisonFilter, loc: list[str | int]) -> ComparisonFilter:
    key = _checked_text(one.key, [*loc, "key"])
    return ComparisonFilter(key=key, type=one.type, value=_checked_value(one.value, [*loc, "value"]))


def checked_metadata(metadata: dict[str, Any], loc: list[str | int]) -> dict[str, MetadataValue]:
    """Return metadata with trimmed texts; raises `InvalidFieldError` if anything is out of bounds."""
    if not 1 <= len(metadata) <= _MOST_ENTRIES:
        raise InvalidFieldError(loc, f"Expected 1 to {_MOST_ENTRIES} entries")
    checked = {_checked_text(key, loc): _checked_value(value, [*loc, key]) for key, value in metadata.items()}
    if len(checked) < len(metadata):
        raise InvalidFieldError(loc, "Keys must differ")
    return checked


def _checked_text(text: str, loc: list[str | int]) -> str:
    text = text.strip()
    if not 1 <= len(text) <= _LONGEST or "\x00" in text:
        raise InvalidFieldError(loc, f"Expected 1 to {_LONGEST} characters")
    return text


def _checked_value(value: Any, loc: list[str | int]) -> MetadataValue:
    if isinstance(value, str):
        return _checked_text(value, loc)
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or (isinstance(value, float) and not isfinite(value)):
        raise InvalidFieldError(loc, "Expected a text, a number or a boolean")
    if abs(value) > _LARGEST:
        raise InvalidFieldError(loc, f"Expected a number between -{_LARGEST} and {_LARGEST}")
    return value


def to_text(value: MetadataValue) -> str:
    """Return a value as filters compare it: numbers in their shortest form, so that 1 and 1.0 are equal."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)
