"""Table `files`: what callers uploaded and what batches wrote; the bytes are in the file store."""

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from shared.columns import bigint


class FileRow(SQLModel, table=True):
    """One file; `id` is the bare ULID.  A removed one stays as a tombstone."""

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_user", "user_id", "id"),)

    id: str = Field(primary_key=True)
    user_id: int = bigint()
    organization_id: int | None = bigint(default=None)
    content_policy: str | None = None
    """That of its organization when it was stored; None if nobody noted it."""
    filename: str
    purpose: str
    size_bytes: int = bigint()
    sha256: str = ""
    lines: int = 0
    """Line ends in it, and one more if its last line has none."""
    status: str = "processed"
    status_details: str | None = None
    created_ms: int = bigint()
    expires_ms: int | None = bigint(default=None, index=True)
    removed_ms: int | None = bigint(default=None)
    removed_reason: str | None = None
