"""Wire types of POST /v1/rerank.  Members and limits are those of the contract; texts are trimmed before they count."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.errors import InvalidFieldError
from shared.jobs.schemas import JobMembers
from shared.usage.schemas import Usage


class RerankRequest(JobMembers, kw_only=True):
    """Body of a request to rank documents.  Members that are not listed are passed on."""

    model: Annotated[str, Meta(min_length=1, description="Name or alias of a router.", examples=["simulator-rerank"])]
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    top_n: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Best results to return; null: all.")] | None = None

    def trim(self) -> None:
        """Remove white space around the texts; raises `InvalidFieldError` if nothing is left of one."""
        self.model, self.query = self.model.strip(), self.query.strip()
        self.documents = [document.strip() for document in self.documents]
        for place, text in (("model", self.model), ("query", self.query)):
            if not text:
                raise InvalidFieldError(["body", place], f"`{place}` must not be empty")
        if "" in self.documents:
            raise InvalidFieldError(["body", "documents", self.documents.index("")], "A document must not be empty")


class RankedDocument(Struct, kw_only=True):
    """How well one document answers the query."""

    relevance_score: float
    index: Annotated[int, Meta(ge=0, description="Position in `documents`.")]


class Reranks(Struct, kw_only=True):
    """The documents by relevance, best first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: Usage
    object: Literal["list"]
