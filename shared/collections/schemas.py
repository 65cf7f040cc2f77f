"""Wire types of /v1/collections.  Source: the OpenGateLLM contract, sections 3.6 and 4.11."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.lists import ListQuery

Visibility = Literal["private", "public"]
RerankModel = Annotated[
    str, Meta(max_length=255, description="Model of type `text-classification` that orders what searches find.")
]
Text = Annotated[str, Meta(max_length=10_000, pattern=r"^[^\x00]*$")]


class CreateCollectionRequest(Struct, kw_only=True):
    """A new collection."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    description: Text | None = None
    visibility: Visibility = "private"
    rerank_model: RerankModel | None = None


class UpdateCollectionRequest(Struct, kw_only=True):
    """What is absent or null stays; an empty `rerank_model` removes it."""

    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    description: Text | None = None
    visibility: Visibility | None = None
    rerank_model: RerankModel | None = None


class ListCollectionsQuery(ListQuery, kw_only=True):
    """Query of GET /v1/collections."""

    name: str | None = None
    visibility: Visibility | None = None


class Collection(Struct, kw_only=True):
    """What documents are collected in; `owner` is an email, times are Unix seconds."""

    id: int
    name: str
    owner: str
    description: str | None
    visibility: Visibility
    rerank_model: str | None
    created: int
    updated: int
    documents: int
    object: Literal["collection"] = "collection"
