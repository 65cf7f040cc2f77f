"""Every statement on `batches`, and on jobs as their items.  The session comes first; nothing here commits."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import func, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.batches.items import item_span
from shared.batches.schemas import BATCH_PREFIX, RUNNING, VALIDATING, BatchUsage, InputTokensDetails, ItemCounts
from shared.batches.schemas import OutputTokensDetails as OutputDetails
from shared.batches.tables import BatchRow
from shared.ids import parse_id
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import COMPLETED, IN_PROGRESS, INCOMPLETE, QUEUED
from shared.jobs.tables import JobResultRow, JobRow
from shared.usage.newest import IS_NEWEST
from shared.usage.tables import ChargeRow, UsageRecordRow

_MOST_OF_USER: Final = 8
"""Batches of one user that are read, or fed, at the same time."""


async def find_batch(session: AsyncSession, user_id: int | None, public_id: str) -> BatchRow | None:
    """Return the batch; None if it is absent or another user's (`user_id` None: anybody's)."""
    ulid = parse_id(public_id, BATCH_PREFIX)
    if ulid is None:
        return None
    row = await session.get(BatchRow, ulid)
    return row if row is not None and user_id in (None, row.user_id) else None


async def list_batches(
    session: AsyncSession, user_id: int, after: str | None, limit: int
) -> tuple[list[BatchRow], bool]:
    """Return at most `limit` batches, newest first, and whether more follow."""
    statement = select(BatchRow).where(BatchRow.user_id == user_id)
    if after is not None:
        statement = statement.where(BatchRow.id < after)
    rows = list((await session.exec(statement.order_by(col(BatchRow.id).desc()).limit(limit + 1))).all())
    return rows[:limit], len(rows) > limit


async def find_batch_reading(session: AsyncSession, file_id: str) -> str | None:
    """Return a batch that has not read all lines of this file yet."""
    reading = (col(BatchRow.finished_ms).is_(None), col(BatchRow.total).is_(None), BatchRow.input_file_id == file_id)
    return (await session.exec(select(BatchRow.id).where(*reading))).first()


async def change_batch(session: AsyncSession, batch_id: str, statuses: Sequence[str], **values: Any) -> bool:
    """Change a batch that is in one of these states; returns False if it is not."""
    of_it = (col(BatchRow.id) == batch_id, col(BatchRow.status).in_(statuses))
    return bool((await session.exec(update(BatchRow).where(*of_it).values(values))).rowcount)


async def has_free_batches(session: AsyncSession, now_ms: int) -> bool:
    """Return whether there may be a batch to lease: a look that keeps nobody from writing."""
    free = col(BatchRow.lease_until_ms).is_(None) | (col(BatchRow.lease_until_ms) < now_ms)
    to_do = (col(BatchRow.finished_ms).is_(None), col(BatchRow.is_fed).is_(False), free)
    return (await session.exec(select(BatchRow.id).where(*to_do).limit(1))).first() is not None


async def lease_batches(
    session: AsyncSession, owner: str, now_ms: int, lease_ms: int, limit: int, *, unread: bool
) -> list[BatchRow]:
    """Return some batches that are to be read, or else fed, and that nobody else works on; they are the owner's now.

    Of each user only the oldest few, and users take turns: who has many batches does not keep others waiting.
    """
    to_do = _to_read() if unread else _to_feed(now_ms)
    place = func.row_number().over(partition_by=col(BatchRow.user_id), order_by=col(BatchRow.id))
    placed = select(BatchRow.id, place.label("place")).where(*to_do).subquery()
    free = col(BatchRow.lease_until_ms).is_(None) | (col(BatchRow.lease_until_ms) < now_ms)
    found = select(BatchRow.id).join(placed, placed.c.id == BatchRow.id).where(*to_do, free)
    found = found.where(placed.c.place <= _MOST_OF_USER).order_by(placed.c.place, col(BatchRow.id)).limit(limit)
    if session.get_bind().dialect.name == "postgresql":
        found = found.with_for_update(skip_locked=True, of=BatchRow)
    ids = (await session.exec(found)).all()
    values = {"lease_owner": owner, "lease_until_ms": now_ms + lease_ms}
    await session.exec(update(BatchRow).where(col(BatchRow.id).in_(ids)).values(values))
    return list((await session.exec(select(BatchRow).where(col(BatchRow.id).in_(ids)))).all())


def _to_read() -> tuple[Any, ...]:
    return (col(BatchRow.finished_ms).is_(None), col(BatchRow.total).is_(None))


def _to_feed(now_ms: int) -> tuple[Any, ...]:
    has_come = col(BatchRow.start_ms).is_(None) | (col(BatchRow.start_ms) <= now_ms)
    return (
        col(BatchRow.finished_ms).is_(None), col(BatchRow.total).is_not(None), BatchRow.status == RUNNING,
        col(BatchRow.expired_ms).is_(None), col(BatchRow.is_fed).is_(False), has_come,
    )  # fmt: skip


async def keep_lease(session: AsyncSession, batch_id: str, owner: str, until_ms: int) -> BatchRow | None:
    """Extend a lease and return the batch as it is now; None if somebody else has it."""
    of_it = (col(BatchRow.id) == batch_id, col(BatchRow.lease_owner) == owner, col(BatchRow.finished_ms).is_(None))
    kept = await session.exec(update(BatchRow).where(*of_it).values(lease_until_ms=until_ms))
    return await session.get(BatchRow, batch_id) if kept.rowcount else None


async def list_open_batches(session: AsyncSession, shard: int) -> Sequence[BatchRow]:
    """Return the batches of a shard whose lines are jobs and that have not ended."""
    is_open = (col(BatchRow.finished_ms).is_(None), BatchRow.status != VALIDATING, BatchRow.shard == shard)
    statement = select(BatchRow).where(*is_open)
    return (await session.exec(statement.order_by(col(BatchRow.id)))).all()


async def count_items(session: AsyncSession, batch_id: str) -> ItemCounts:
    """Return the items by state, counted; an incomplete one has a result, as a completed one has."""
    statement = select(JobRow.status, func.count()).where(JobRow.batch_id == batch_id).group_by(JobRow.status)
    counts = dict((await session.exec(statement)).all())
    if incomplete := counts.pop(INCOMPLETE, 0):
        counts[COMPLETED] = counts.get(COMPLETED, 0) + incomplete
    return ItemCounts(**counts)


async def count_open_items(session: AsyncSession, batch_id: str) -> int:
    """Return how many items have not ended."""
    unfinished = (JobRow.batch_id == batch_id, col(JobRow.status).in_((QUEUED, IN_PROGRESS)))
    return (await session.exec(select(func.count()).select_from(JobRow).where(*unfinished))).one()


async def has_open_items(session: AsyncSession, batch_id: str) -> bool:
    """Return whether an item has not ended."""
    unfinished = (JobRow.batch_id == batch_id, col(JobRow.status).in_((QUEUED, IN_PROGRESS)))
    return (await session.exec(select(JobRow.id).where(*unfinished).limit(1))).first() is not None


async def sum_usage(session: AsyncSession, batch_id: str) -> tuple[BatchUsage, int]:
    """Return the tokens and the charge, in micro-units, of the items that have ended."""
    low, high = item_span(batch_id)
    charged = select(
        func.sum(ChargeRow.prompt_tokens), func.sum(ChargeRow.completion_tokens), func.sum(ChargeRow.amount_micros)
    ).where(col(ChargeRow.job_id).between(low, high))
    prompt, completion, micros = [int(value or 0) for value in (await session.exec(charged)).one()]
    details = select(func.sum(UsageRecordRow.cached_tokens), func.sum(UsageRecordRow.reasoning_tokens)).where(
        col(UsageRecordRow.job_id).between(low, high), UsageRecordRow.status == "succeeded", IS_NEWEST
    )
    cached, reasoning = [int(value or 0) for value in (await session.exec(details)).one()]
    usage = BatchUsage(
        input_tokens=prompt,
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=completion,
        output_tokens_details=OutputDetails(reasoning_tokens=reasoning),
        total_tokens=prompt + completion,
    )
    return usage, micros


async def list_items(
    session: AsyncSession, batch_id: str, after: str, limit: int, statuses: Sequence[str] = ()
) -> list[JobRow]:
    """Return items behind the job `after` in the order of the input, without their requests."""
    statement = select(JobRow).where(col(JobRow.id) > after, col(JobRow.id) <= item_span(batch_id)[1])
    if statuses:
        statement = statement.where(col(JobRow.status).in_(statuses))
    return list((await session.exec(statement.order_by(col(JobRow.id)).limit(limit).options(*LIGHT))).all())


async def count_held_items(session: AsyncSession, batch_id: str) -> int:
    """Return how many items have not been admitted; reads all of them."""
    low, high = item_span(batch_id)
    held = (col(JobRow.id).between(low, high), col(JobRow.held), JobRow.status == QUEUED)
    return (await session.exec(select(func.count()).select_from(JobRow).where(*held))).one()


async def list_held_items(session: AsyncSession, batch_id: str, after: str, limit: int) -> list[JobRow]:
    """Return items behind the job `after` that have not been admitted, with their requests."""
    held = (col(JobRow.id) > after, col(JobRow.id) <= item_span(batch_id)[1], col(JobRow.held), JobRow.status == QUEUED)
    return list((await session.exec(select(JobRow).where(*held).order_by(col(JobRow.id)).limit(limit))).all())


async def list_results(
    session: AsyncSession, batch_id: str, after: str, limit: int, statuses: Sequence[str] = ()
) -> list[tuple[JobRow, bytes | None]]:
    """Return items behind the job `after` that have ended, in the order of the input, each with its answer."""
    statement = (
        select(JobRow, JobResultRow.body)
        .join(JobResultRow, col(JobResultRow.job_id) == JobRow.id, isouter=True)
        .where(col(JobRow.id) > after, col(JobRow.id) <= item_span(batch_id)[1], col(JobRow.finished_ms).is_not(None))
        .order_by(col(JobRow.id))
        .limit(limit)
        .options(*LIGHT)
    )
    if statuses:
        statement = statement.where(col(JobRow.status).in_(statuses))
    return [(row, body) for row, body in (await session.exec(statement)).all()]
