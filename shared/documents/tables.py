"""Tables `documents` and `items`: what was put into collections."""

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class DocumentRow(SQLModel, table=True):
    __tablename__ = "documents"
    __table_args__ = (
        Index("ix_documents_collection", "collection_id", "status"),
        Index("ix_documents_fingerprint", "collection_id", "fingerprint"),
        Index("ix_documents_status", "status"),
        NEVER_REUSE_IDS,
    )

    id: int | None = Field(default=None, primary_key=True)
    collection_id: int = Field(foreign_key="collections.id", ondelete="CASCADE")
    kind: str
    """document | addition: chunks on their way into a document | file, item: those of vector stores."""
    name: str
    status: str
    """processing | completed | failed | deleted; searches and lists see completed ones."""
    error: str | None = None
    job_id: str | None = Field(default=None, unique=True)
    """Job that fills it; also the public id of files and items."""
    attempt: int = 0
    """Of that job; earlier ones must not write any more."""
    fingerprint: str | None = None
    """Digest of file and options: the same file is not taken twice."""
    size_bytes: int = 0
    content: str | None = None
    """Whole text of an item, which may have several chunks."""
    tokens: int = bigint(default=0)
    chunks: int = 0
    """How many it has."""
    terms: int = bigint(default=0)
    """Words of its chunks, for the average length."""
    next_chunk: int = 0
    """Number of its next chunk; numbers are not used again."""
    created_ms: int = bigint()


class ItemRow(SQLModel, table=True):
    """What a search in a vector store finds: a text, or a chunk of a file."""

    __tablename__ = "items"
    __table_args__ = (Index("ix_items_document", "document_id"),)

    id: str = Field(primary_key=True)
    collection_id: int = Field(foreign_key="collections.id", ondelete="CASCADE", index=True)
    document_id: int = Field(foreign_key="documents.id", ondelete="CASCADE")
    description: str
    tokens: int = bigint()
    chunks: int = 1
    created_ms: int = bigint()
