"""Table `audit_events`: who changed what in the administration, and when.  Append-only.

Names and addresses are copied, not referred to: an event outlives the user who caused it.
"""

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from shared.columns import bigint


class AuditEventRow(SQLModel, table=True):
    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_user", "user_id", "id"),
        Index("ix_audit_events_object", "object_type", "object_id", "id"),
    )

    id: str = Field(primary_key=True)
    created_ms: int = bigint()
    user_id: int = bigint()
    """Who did it; 0 is the master."""
    email: str
    key_id: int | None = bigint(default=None)
    action: str
    object_type: str
    object_id: str
    before: str | None = None
    """JSON of the object, without secrets; null if it was not there."""
    after: str | None = None
    request_id: str
    client_address: str | None = None
