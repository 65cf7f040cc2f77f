"""Every statement on conversations.  The session comes first; nothing here commits."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.conversations.tables import ConversationMessageRow, ConversationRow
from shared.errors import NotFoundError
from shared.ids import new_ulid
from shared.jobs.tables import JobRow


class ConversationNotFoundError(NotFoundError):
    """The subscription has no conversation with this id."""

    code = "conversation_not_found"

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"No conversation `{conversation_id[:100]}`.", param="id")


async def get_conversation(session: AsyncSession, key_id: int, conversation_id: str) -> ConversationRow:
    """Return a conversation of this subscription; raises `ConversationNotFoundError`."""
    row = await session.get(ConversationRow, conversation_id.removeprefix("conv_"))
    if row is None or row.key_id != key_id:
        raise ConversationNotFoundError(conversation_id)
    return row


async def list_conversations(
    session: AsyncSession, key_id: int, after: str | None, limit: int
) -> tuple[list[ConversationRow], bool]:
    """Return conversations, newest first, and whether more follow."""
    statement = select(ConversationRow).where(ConversationRow.key_id == key_id)
    if after is not None:
        statement = statement.where(col(ConversationRow.id) < after)
    rows = list((await session.exec(statement.order_by(col(ConversationRow.id).desc()).limit(limit + 1))).all())
    return rows[:limit], len(rows) > limit


async def list_messages(session: AsyncSession, conversation_id: str) -> list[tuple[ConversationMessageRow, str | None]]:
    """Return the messages, oldest first, each with the vote on its job."""
    statement = (
        select(ConversationMessageRow, JobRow.vote)
        .join(JobRow, col(JobRow.id) == ConversationMessageRow.job_id, isouter=True)
        .where(ConversationMessageRow.conversation_id == conversation_id)
        .order_by(col(ConversationMessageRow.id))
    )
    return [(message, vote) for message, vote in (await session.exec(statement)).all()]


async def begin_answer(session: AsyncSession, row: ConversationRow, job_id: str, values: dict[str, Any]) -> bool:
    """Note which job answers the conversation; returns False if another one does already."""
    is_free = (col(ConversationRow.id) == row.id, col(ConversationRow.job_id).is_(None))
    changed = await session.exec(update(ConversationRow).where(*is_free).values(job_id=job_id, **values))
    return bool(changed.rowcount)


async def end_answer(session: AsyncSession, row: ConversationRow, answer: tuple[str, str] | None, now_ms: int) -> None:
    """Keep question and answer (text, status of its job), once; without an answer, forget the question."""
    is_same = (col(ConversationRow.id) == row.id, col(ConversationRow.job_id) == row.job_id)
    over = {"job_id": None, "asked": None, "asked_ms": None, "updated_ms": now_ms}
    changed = await session.exec(update(ConversationRow).where(*is_same).values(**over))
    if not changed.rowcount or answer is None or row.asked is None:
        return
    text, status = answer
    question = ConversationMessageRow(
        id=new_ulid(), conversation_id=row.id, role="user", content=row.asked, created_ms=row.asked_ms or now_ms,
        status="completed",
    )  # fmt: skip
    reply = ConversationMessageRow(
        id=question.id + "a", conversation_id=row.id, role="assistant", content=text, created_ms=now_ms,
        job_id=row.job_id, status=status,
    )  # fmt: skip
    session.add_all([question, reply])


async def delete_conversations(
    session: AsyncSession, key_ids: Sequence[int], conversation_id: str | None = None
) -> None:
    """Delete one conversation of subscriptions, or all of them, with their messages."""
    chosen = select(ConversationRow.id).where(col(ConversationRow.key_id).in_(key_ids))
    if conversation_id is not None:
        chosen = chosen.where(ConversationRow.id == conversation_id)
    await session.exec(
        delete(ConversationMessageRow).where(col(ConversationMessageRow.conversation_id).in_(chosen))
    )  # fmt: skip
    await session.exec(delete(ConversationRow).where(col(ConversationRow.id).in_(chosen)))
