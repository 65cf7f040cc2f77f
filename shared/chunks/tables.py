"""Table `chunks`, and `vocabulary`, the words that occur in them.

What finds them stands in `chunk_index*`, which differs between the databases: see `shared.retrieval.sqlite` and
`shared.retrieval.postgres`.  Deleting a chunk deletes what the index knows of it.
"""

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class ChunkRow(SQLModel, table=True):
    __tablename__ = "chunks"
    __table_args__ = (
        Index("uq_chunks_number", "document_id", "number", unique=True),
        Index("ix_chunks_collection", "collection_id", "id"),
        NEVER_REUSE_IDS,
    )

    id: int | None = Field(default=None, primary_key=True)
    collection_id: int
    document_id: int = Field(foreign_key="documents.id", ondelete="CASCADE")
    number: int
    """Public id within its document, from 0."""
    item_id: str | None = Field(default=None, index=True)
    page: int | None = None
    """Of the file, from 0."""
    terms: int = 0
    """Its length in words."""
    created_ms: int = bigint()
    metadata_: str | None = Field(default=None, sa_column_kwargs={"name": "metadata"})
    """As it was given, JSON."""
    metadata_texts: str | None = None
    """The same with texts for values, which filters compare."""
    content: str


class VocabularyRow(SQLModel, table=True):
    __tablename__ = "vocabulary"

    id: int | None = Field(default=None, primary_key=True)
    term: str = Field(unique=True)
