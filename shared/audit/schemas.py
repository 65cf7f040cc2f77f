"""Wire types of /v1/admin/audit."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from shared.lists import PageQuery, RowId, Seconds

Text = Annotated[str, Meta(max_length=255)]


class ListAuditQuery(PageQuery, kw_only=True, forbid_unknown_fields=True):
    """Filters, combined with and; both ends of the time are part of it."""

    actor: RowId | None = None
    object_type: Text | None = None
    object_id: Text | None = None
    start_time: Seconds | None = None
    end_time: Seconds | None = None


class AuditEvent(Struct, kw_only=True):
    """One change: who (`actor` 0 is the master), what, and the object before and after, without secrets."""

    id: str
    actor: int
    actor_email: str
    key: int | None
    action: str
    object_type: str
    object_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str
    client_address: str | None
    created: int
    object: Literal["audit_event"] = "audit_event"


class PasswordState(Struct, kw_only=True):
    """What an event tells of a password: whether there is one."""

    password: Literal["***"] | None
