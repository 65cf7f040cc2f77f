"""Items of batches as their owners see them, and their results in the order of the input."""

from collections.abc import AsyncIterator, Collection
from typing import Final

from msgspec import Raw, json
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from api.render import error_of, usage_of
from shared.batches.items import item_span, line_of
from shared.batches.lines import result_line
from shared.batches.queries import list_results
from shared.batches.schemas import ITEM_PREFIX, BatchItem, BatchLine, ItemError, ItemUsage
from shared.batches.tables import BatchRow
from shared.dialects import MOUNTS
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import public_id
from shared.jobs.tables import JobResultRow, JobRow

_PAGE: Final = 200


def to_item(row: JobRow) -> BatchItem:
    """Return the wire form of an item."""
    usage, error = usage_of(row), error_of(row)
    return BatchItem(
        id=ITEM_PREFIX + row.id,
        line=line_of(row.id),
        custom_id=row.custom_id or "",
        job_id=public_id(row.id),
        status=row.status,  # type: ignore[arg-type]  # a column
        error=None if error is None else ItemError(code=error.code, message=error.message),
        usage=None if usage is None else ItemUsage(
            prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        ),
    )  # fmt: skip


async def set_result_headers(call: Call, row: BatchRow) -> None:
    """Say whether lines are still to come, and which is the last one that has ended."""
    async with call.state.database.read() as session:
        low, high = item_span(row.id)
        ended = (col(JobRow.id).between(low, high), col(JobRow.finished_ms).is_not(None))
        last = (await session.exec(select(JobRow.id).where(*ended).order_by(col(JobRow.id).desc()).limit(1))).first()
    call.headers["X-Incomplete"] = "false" if row.finished_ms is not None else "true"
    call.headers["X-Last-Line"] = "0" if last is None else str(line_of(last))


async def result_lines(
    call: Call, batch: BatchRow, after: str, *, with_input: bool, follow_retries: bool
) -> AsyncIterator[bytes]:
    """Yield the results behind the job `after`, some lines at a time."""
    await set_result_headers(call, batch)
    newest = await _newest(call, batch) if follow_retries else {}
    while True:
        async with call.state.database.read() as session:
            page = await list_results(session, batch.id, after, _PAGE)
            inputs = await _inputs(session, [row.id for row, _ in page]) if with_input else {}
            found = await _results_of(
                session, [newest[row.custom_id or ""] for row, _ in page if row.custom_id in newest]
            )
        if not page:
            return
        lines = []
        for row, body in page:
            current, answer = found.get(newest.get(row.custom_id or "", ""), (row, body))
            line = result_line(current, answer, batch_expired=batch.expired_ms is not None)
            line.line = line_of(row.id)
            if with_input:
                line.input = Raw(inputs.get(row.id) or b"null")
            lines.append(json.encode(line))
        yield b"\n".join(lines) + b"\n"
        after = page[-1][0].id


async def _inputs(session: AsyncSession, job_ids: list[str]) -> dict[str, bytes | None]:
    rows = await session.exec(select(JobRow.id, JobRow.request).where(col(JobRow.id).in_(job_ids)))
    return dict(rows.all())


async def _results_of(session: AsyncSession, job_ids: list[str]) -> dict[str, tuple[JobRow, bytes | None]]:
    if not job_ids:
        return {}
    joined = select(JobRow, JobResultRow.body).join(
        JobResultRow, col(JobResultRow.job_id) == JobRow.id, isouter=True
    )  # fmt: skip
    rows = await session.exec(joined.where(col(JobRow.id).in_(job_ids)).options(*LIGHT))
    return {row.id: (row, body) for row, body in rows.all()}


async def _newest(call: Call, batch: BatchRow) -> dict[str, str]:
    """Return custom_id → job of its newest run that has ended, over all later batches that retry this one."""
    found: dict[str, str] = {}
    batches = [batch.id]
    async with call.state.database.read() as session:
        while batches:
            later = select(BatchRow.id).where(col(BatchRow.retry_of).in_(batches)).order_by(col(BatchRow.id))
            batches = list((await session.exec(later)).all())
            for batch_id in batches:
                ended = (JobRow.batch_id == batch_id, col(JobRow.finished_ms).is_not(None))
                rows = await session.exec(select(JobRow.custom_id, JobRow.id).where(*ended))
                found |= {custom_id or "": job_id for custom_id, job_id in rows.all()}
    return found


async def list_matching(
    call: Call, batch: BatchRow, statuses: Collection[str], custom_ids: Collection[str] | None
) -> AsyncIterator[bytes]:
    """Yield the input lines of the items that ended so; those with these custom_ids, if there are any."""
    after, last = item_span(batch.id)
    while True:
        async with call.state.database.read() as session:
            ended = (col(JobRow.id) > after, col(JobRow.id) <= last, col(JobRow.status).in_(statuses))
            rows = (await session.exec(select(JobRow).where(*ended).order_by(col(JobRow.id)).limit(_PAGE))).all()
        if not rows:
            return
        for row in rows:
            if row.request is not None and (custom_ids is None or row.custom_id in custom_ids):
                mount = f"/{row.dialect}" if row.dialect in MOUNTS else ""
                line = BatchLine(
                    custom_id=row.custom_id or "", method="POST", url=mount + batch.endpoint, body=Raw(row.request)
                )
                yield json.encode(line)
        after = rows[-1].id
