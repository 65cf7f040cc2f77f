"""Wire types of /v1/vector_store and of RAG chats.  Source: the Vultr contract, sections 4 and 8."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.chat.schemas import ChatCompletionRequest
from shared.files.uploads import UploadedFile
from shared.usage.schemas import Usage

MAX_CONTENT_BYTES = 1024 * 1024
Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
Description = Annotated[str, Meta(max_length=255, pattern=r"^[^\x00]*$")]
FileStatus = Literal["enqueued", "processing", "completed", "failed"]
Threshold = Annotated[float, Meta(ge=0, le=1)]
Most = Annotated[int, Meta(ge=1, le=50)]


class ListQuery(Struct, kw_only=True):
    """With `limit`, the answer says whether more follow; `after` is the id of the last one before."""

    limit: Annotated[int, Meta(ge=1, le=1000)] | None = None
    after: str | None = None


class StoreNameRequest(Struct, kw_only=True):
    """A new vector store, or its new name."""

    name: Name


class Store(Struct, kw_only=True):
    """A vector store; `dimensions` is null until it has vectors."""

    id: str
    name: str
    created: str
    embedding_model: str | None
    dimensions: int | None
    items: int
    files: int


class StoreReply(Struct, kw_only=True):
    """One vector store."""

    collection: Store


class StoreList(Struct, kw_only=True):
    """Vector stores, the oldest first."""

    collections: list[Store]
    has_more: bool | UnsetType = UNSET
    last_id: str | UnsetType | None = UNSET


class CreateItemRequest(Struct, kw_only=True):
    """A text; if it is longer than the model takes it becomes several vectors, unless `auto_chunk` is false."""

    content: Annotated[str, Meta(min_length=1, max_length=MAX_CONTENT_BYTES, pattern=r"^[^\x00]*$")]
    description: Description | None = None
    auto_chunk: bool | None = None
    auto_embed: bool | None = None


class UpdateItemRequest(Struct, kw_only=True):
    """Null stands for the beginning of the text."""

    description: Description | None


class ListedItem(Struct, kw_only=True):
    """An item without its text."""

    id: str
    created: str
    description: str
    file_id: str | None
    chunks: int
    tokens: int


class Item(ListedItem, kw_only=True):
    """A text, or a chunk of a file."""

    content: str


class ItemReply(Struct, kw_only=True):
    """One item."""

    item: Item


class CreatedItem(ItemReply, kw_only=True):
    """A new item, and what its vectors cost."""

    usage: Usage


class ItemList(Struct, kw_only=True):
    """Items, the oldest first."""

    items: list[ListedItem]
    has_more: bool | UnsetType = UNSET
    last_id: str | UnsetType | None = UNSET


class CreateFileForm(Struct, kw_only=True):
    """Multipart form with one file."""

    file: UploadedFile


class StoreFile(Struct, kw_only=True):
    """A file that becomes items; their number grows while it is processed."""

    id: str
    filename: str
    status: FileStatus
    error: str | None
    items: int
    tokens: int
    bytes: int
    created: str
    job_id: str


class FileReply(Struct, kw_only=True):
    """One file."""

    file: StoreFile


class FileList(Struct, kw_only=True):
    """Files, the oldest first."""

    files: list[StoreFile]
    has_more: bool | UnsetType = UNSET
    last_id: str | UnsetType | None = UNSET


class StoreSearchRequest(Struct, kw_only=True):
    """A search by meaning."""

    input: Annotated[str, Meta(min_length=1, max_length=8192, pattern=r"^[^\x00]*$")]
    limit: Most = 10
    score_threshold: Threshold = 0.0


class StoreHit(Struct, kw_only=True):
    """An item that was found; `content` is the chunk that is nearest, `score` its cosine."""

    id: str
    created: str
    content: str
    description: str
    score: float
    file_id: str | None


class StoreHits(Struct, kw_only=True):
    """Items, the nearest first."""

    results: list[StoreHit]
    usage: Usage


class RagRequest(ChatCompletionRequest, kw_only=True):
    """A chat about a vector store, given by its id or by a name that only one has."""

    collection: Annotated[str, Meta(min_length=1, max_length=255)]
    max_results: Most = 5
    score_threshold: Threshold = 0.0


class Retrieval(Struct, kw_only=True):
    """What a RAG chat was given."""

    results: list[StoreHit]
    usage: Any
