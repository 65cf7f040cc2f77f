"""Every statement on `audit_events`.  The session comes first; nothing here commits, changes or deletes."""

from typing import Any

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.audit.schemas import ListAuditQuery
from shared.audit.tables import AuditEventRow
from shared.ids import oldest_ulid


async def list_audit_events(session: AsyncSession, query: ListAuditQuery) -> tuple[list[AuditEventRow], int]:
    """Return one page of events, newest first, and the number of all that match."""
    filters = {"user_id": query.actor, "object_type": query.object_type, "object_id": query.object_id}
    conditions: list[Any] = [
        getattr(AuditEventRow, name) == value for name, value in filters.items() if value is not None
    ]
    if query.start_time is not None:
        conditions.append(col(AuditEventRow.id) >= oldest_ulid(query.start_time * 1000))
    if query.end_time is not None:
        conditions.append(col(AuditEventRow.id) < oldest_ulid((query.end_time + 1) * 1000))
    statement = select(AuditEventRow).where(*conditions).order_by(col(AuditEventRow.id).desc())
    rows = (await session.exec(statement.offset(query.offset).limit(query.limit))).all()
    total = (await session.exec(select(func.count()).select_from(AuditEventRow).where(*conditions))).one()
    return list(rows), total
