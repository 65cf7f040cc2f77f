"""Wire types of POST /v1/search and of the search tool in chats.  Source: the OpenGateLLM contract, 3.6 and 4.19."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.chunks.schemas import Chunk, Filter
from shared.collections.errors import SearchMethodError
from shared.errors import InvalidFieldError
from shared.lists import one_of
from shared.usage.schemas import Usage

SearchMethod = Literal["hybrid", "semantic", "lexical"]
Ids = Annotated[list[Annotated[int, Meta(ge=1, le=2**31 - 1)]], Meta(max_length=100)]

SEARCH_TOOL = "search"
"""The `type` of a tool of a chat that Sluice itself runs."""


class SearchArgs(Struct, kw_only=True):
    """Where and how to search; `collections` is another spelling of `collection_ids`."""

    collection_ids: Ids | None = None
    collections: Ids | None = None
    document_ids: Ids = []
    metadata_filters: Filter | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    offset: Annotated[int, Meta(ge=0, le=100_000)] = 0
    method: SearchMethod = "semantic"
    rff_k: Annotated[int, Meta(ge=0, le=16_384)] = 60
    score_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0

    def check(self, *loc: str | int) -> list[int]:
        """Return the collections named; raises `InvalidFieldError` and `SearchMethodError`."""
        ids = one_of("collection_ids", self.collection_ids, "collections", self.collections, "body")
        if self.score_threshold > 0 and self.method != "semantic":
            raise SearchMethodError
        if self.metadata_filters is not None:
            self.metadata_filters.comparisons([*loc, "metadata_filters"])
        return list(dict.fromkeys(ids or ()))


class SearchRequest(SearchArgs, kw_only=True):
    """A search; `prompt` is another spelling of `query`."""

    query: str | None = None
    prompt: str | None = None

    def text(self) -> str:
        """Return what to look for; raises `InvalidFieldError`."""
        found = (one_of("query", self.query, "prompt", self.prompt, "body") or "").strip()
        if not found:
            raise InvalidFieldError(["body", "query"], "query or prompt must be provided")
        if "\x00" in found:
            raise InvalidFieldError(["body", "query"], "NUL characters are not allowed")
        return found


class SearchResult(Struct, kw_only=True):
    """A chunk that was found, by the method that was asked for."""

    method: SearchMethod
    score: float
    chunk: Chunk


class SearchResults(Struct, kw_only=True):
    """Chunks, the best first; `usage` is that of the embedding of the query."""

    data: list[SearchResult]
    usage: Usage
    object: Literal["list"] = "list"
