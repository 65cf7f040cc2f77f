"""GET /v1/admin/audit: who changed what."""

from msgspec import json

from api.call import Call
from api.http import Routes
from shared.audit.queries import list_audit_events
from shared.audit.schemas import AuditEvent, ListAuditQuery
from shared.audit.tables import AuditEventRow
from shared.lists import ListPage, check_ranges

routes = Routes("Admin: audit")


@routes.get("/v1/admin/audit", right="admin")
async def list_audit(call: Call, query: ListAuditQuery) -> ListPage[AuditEvent]:
    """List administrative changes, newest first; they are never changed or deleted."""
    check_ranges(query, ("start_time", "end_time"))
    async with call.state.database.read() as session:
        rows, total = await list_audit_events(session, query)
    return ListPage(data=[_to_event(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


def _to_event(row: AuditEventRow) -> AuditEvent:
    return AuditEvent(
        id=row.id,
        actor=row.user_id,
        actor_email=row.email,
        key=row.key_id,
        action=row.action,
        object_type=row.object_type,
        object_id=row.object_id,
        before=None if row.before is None else json.decode(row.before),
        after=None if row.after is None else json.decode(row.after),
        request_id=row.request_id,
        client_address=row.client_address,
        created=row.created_ms // 1000,
    )
