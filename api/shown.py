"""Content policies of what others own, and of what is put into a new job from earlier ones."""

from api.call import Call, Draft
from shared.batches.tables import BatchRow
from shared.errors import PermissionDeniedError
from shared.files.tables import FileRow
from shared.jobs.tables import JobRow
from shared.request_logs.listing_queries import get_content_policy
from shared.request_logs.redaction import FULL, policy_of, strictest


async def check_shown(call: Call, row: JobRow | FileRow | BatchRow, came_under: str | None) -> None:
    """Raise `PermissionDeniedError` unless the row is the caller's, or its content is open now and was when it came.

    `came_under` is the content policy of then, None if nobody noted it.
    """
    if row.user_id == call.caller.user_id:
        return
    async with call.state.database.read() as session:
        policy = await get_content_policy(session, row.organization_id)
    if strictest(policy, policy_of(came_under, row.organization_id, has_headers=True)) != FULL:
        raise PermissionDeniedError("The content policy of its organization shows this to its users only.")


def keep_policy(draft: Draft, row: JobRow | FileRow) -> None:
    """Have the job of the draft, which says again what is in this row, shown no more than this."""
    draft.came_under = strictest(draft.came_under, policy_of(row.content_policy, row.organization_id, has_headers=True))
