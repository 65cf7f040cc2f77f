"""Table `collections`: what is searched together.  Those of the surface `vector_store` are named by a slug."""

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class CollectionRow(SQLModel, table=True):
    __tablename__ = "collections"
    __table_args__ = (
        Index("ix_collections_user", "user_id", "surface"),
        Index("ix_collections_owner_key", "owner_key_id"),
        Index("uq_collections_slug", "user_id", "owner_key_id", "slug", unique=True),
        NEVER_REUSE_IDS,
    )

    id: int | None = Field(default=None, primary_key=True)
    surface: str
    """collections | vector_store | deleted: hidden, its rows are being removed."""
    user_id: int = bigint()
    name: str
    owner_key_id: int = bigint(default=0)
    """Key of the subscription that a vector store belongs to; 0: its user himself."""
    slug: str | None = None
    """Public id of a vector store."""
    description: str | None = None
    visibility: str = "private"
    embedding_model: str | None = None
    """Router that made the vectors; null as long as there are none."""
    rerank_model: str | None = None
    """Router that orders what searches find; null: the order of the search."""
    dimensions: int | None = None
    """Of all its vectors; null as long as there are none."""
    created_ms: int = bigint()
    updated_ms: int = bigint()
