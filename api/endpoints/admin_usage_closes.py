"""GET /v1/admin/usage/closes: months as they were closed by `scripts/sluice ledger`."""

from msgspec import json

from api.call import Call
from api.http import Reply, Routes
from shared.errors import NotFoundError
from shared.lists import ListPage
from shared.usage.closes import GetCloseQuery, ListClosesQuery, MonthClose, UsageClose
from shared.usage.queries import find_close, list_closes
from shared.usage.tables import CloseRow

routes = Routes("Usage")


@routes.get("/v1/admin/usage/closes", right="admin")
async def list_usage_closes(call: Call, query: ListClosesQuery) -> ListPage[UsageClose]:
    """List closed months, the newest first, with all their revisions."""
    async with call.state.database.read() as session:
        rows, total = await list_closes(session, query)
    return ListPage(data=[_to_close(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/usage/closes/{month}", right="admin", raises=(NotFoundError,))
async def get_usage_close(call: Call, month: str, query: GetCloseQuery) -> Reply[MonthClose]:
    """Get a close byte by byte as it was made: exact sums by organization, user, key, model, provider and method."""
    async with call.state.database.read() as session:
        row = await find_close(session, month, query.revision)
    if row is None:
        raise NotFoundError(f"`{month[:20]}` has no such close.", param="month")
    return Reply(body=row.document.encode())


def _to_close(row: CloseRow) -> UsageClose:
    document = json.decode(row.document, type=MonthClose)
    return UsageClose(
        month=row.month, revision=row.revision, created_at=row.created_ms // 1000, restatement=row.restatement,
        records=document.records, charges=document.charges, ledger_sha256=row.ledger_sha256,
        charged_micros=document.charged_micros, total=document.total,
    )  # fmt: skip
