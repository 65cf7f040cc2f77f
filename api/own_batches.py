"""A caller's own batches: find one, show it."""

from typing import Final

from msgspec import json
from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from shared.batches.queries import count_items, find_batch, sum_usage
from shared.batches.schemas import (
    BATCH_PREFIX,
    EXPIRED,
    RUNNING,
    Batch,
    BatchCarbon,
    BatchErrors,
    BatchExtras,
    BatchUsage,
    ItemCounts,
    RequestCounts,
)
from shared.batches.tables import BatchRow
from shared.clock import now_ms, to_seconds
from shared.errors import NotFoundError
from shared.files.schemas import FILE_PREFIX
from shared.usage.schemas import MICRO

_NG_PER_G: Final = 10**9


class BatchNotFoundError(NotFoundError):
    """No such batch, or it is not the caller's."""

    code = "batch_not_found"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"No batch `{batch_id[:100]}`.", param="batch_id")


async def find_own_batch(call: Call, session: AsyncSession, batch_id: str) -> BatchRow:
    """Return the caller's batch; raises `BatchNotFoundError`."""
    row = await find_batch(session, None if call.caller.is_admin else call.caller.user_id, batch_id)
    if row is None:
        raise BatchNotFoundError(batch_id)
    return row


async def to_batch(session: AsyncSession, row: BatchRow) -> Batch:
    """Return the wire form of a batch; what moves while it runs is counted from its items."""
    if row.counts is not None and row.usage is not None:
        counts, (usage, micros) = (
            json.decode(row.counts, type=ItemCounts),
            json.decode(row.usage, type=tuple[BatchUsage, int]),
        )
    else:
        counts, (usage, micros) = await count_items(session, row.id), await sum_usage(session, row.id)
    is_over = row.finished_ms is not None
    return Batch(
        id=BATCH_PREFIX + row.id,
        endpoint=row.endpoint,
        model=row.model,
        errors=None if row.errors is None else json.decode(row.errors, type=BatchErrors),
        input_file_id=FILE_PREFIX + (row.input_file_id or ""),
        completion_window=row.completion_window,
        status=row.status,  # type: ignore[arg-type]  # a column
        output_file_id=FILE_PREFIX + row.output_file_id if is_over and row.output_file_id else None,
        error_file_id=FILE_PREFIX + row.error_file_id if is_over and row.error_file_id else None,
        created_at=row.created_ms // 1000,
        in_progress_at=to_seconds(row.in_progress_ms),
        expires_at=row.expires_ms // 1000,
        finalizing_at=to_seconds(row.finalizing_ms),
        completed_at=to_seconds(row.completed_ms),
        failed_at=to_seconds(row.failed_ms),
        expired_at=to_seconds(row.expired_ms) if row.status == EXPIRED else None,
        cancelling_at=to_seconds(row.cancelling_ms),
        cancelled_at=to_seconds(row.cancelled_ms),
        request_counts=RequestCounts(total=row.total or 0, completed=counts.completed, failed=counts.unsuccessful),
        usage=usage,
        metadata=json.decode(row.metadata_, type=dict[str, str]) if row.metadata_ else None,
        sluice=BatchExtras(
            counts=counts,
            estimated_completion_at=_estimate_end(row, counts),
            starts_at=to_seconds(row.start_ms),
            cost=micros / MICRO,
            carbon=_carbon(row),
            retry_of=None if row.retry_of is None else BATCH_PREFIX + row.retry_of,
        ),
    )


def _estimate_end(row: BatchRow, counts: ItemCounts) -> int | None:
    """Return when the batch ends if it goes on as so far."""
    begun_ms = max(row.in_progress_ms or 0, row.start_ms or 0)
    ended = (row.total or 0) - counts.open
    if row.status != RUNNING or ended <= 0 or begun_ms >= now_ms():
        return None
    left_ms = (now_ms() - begun_ms) * counts.open / ended
    return min(now_ms() + int(left_ms), row.expires_ms) // 1000


def _carbon(row: BatchRow) -> BatchCarbon | None:
    if row.baseline_ng is None or row.actual_ng is None:
        return None
    return BatchCarbon(baseline_gco2eq=row.baseline_ng / _NG_PER_G, actual_gco2eq=row.actual_ng / _NG_PER_G)
