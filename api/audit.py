"""Write down who changed what, in the transaction of the change."""

from msgspec import Struct, json
from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from api.client_address import address_of
from shared.audit.tables import AuditEventRow
from shared.clock import now_ms
from shared.ids import new_ulid
from shared.request_logs.redaction import clean


def audit(  # noqa: PLR0913, PLR0917  # an event has that many parts
    session: AsyncSession,
    call: Call,
    action: str,
    object_type: str,
    object_id: int,
    before: Struct | None,
    after: Struct | None,
) -> None:
    """Add an event to the transaction of `session`; `before` and `after` are wire types, which hold no secret."""
    session.add(
        AuditEventRow(
            id=new_ulid(),
            created_ms=now_ms(),
            user_id=call.caller.user_id,
            email=call.caller.email,
            key_id=call.caller.key_id,
            action=action,
            object_type=object_type,
            object_id=str(object_id),
            before=None if before is None else json.encode(before).decode(),
            after=None if after is None else json.encode(after).decode(),
            request_id=call.request_id,
            client_address=None if (address := address_of(call.request)) is None else clean(address),
        )
    )
