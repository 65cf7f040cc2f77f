"""Jobs that have not begun: cancel one, or those whose callers have waited long enough."""

from contextlib import suppress
from typing import Final

import structlog
from msgspec import json
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from api.state import State, queue_of
from shared.clock import now_ms
from shared.errors import StoredError
from shared.group_commit.units import CommitError, StaleError
from shared.jobs.ending import JobEnd, end_unit, model_busy, note_job
from shared.jobs.messages import message_of
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import CANCELLED, QUEUED, public_id
from shared.jobs.statements import request_cancel
from shared.jobs.tables import JobRow
from shared.replies.entries import Ending, Entry, Kind, encode_ending
from shared.usage.schemas import zero_usage
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.statements import deliveries_of

log = structlog.get_logger()
_PAGE: Final = 500
"""Most jobs looked at together."""


async def end_waiting(state: State, row: JobRow, error: StoredError, status: str = CANCELLED) -> None:
    """End a job that has not begun, and tell its caller this error; raises `StaleError` if it has begun."""
    now, message = now_ms(), message_of(row)
    end = JobEnd(status=status, usage=zero_usage(requests=row.attempt), charge_micros=0, error=error)
    unit = end_unit(message, row.attempt, end, now, state.settings.effective_public_url(), only_queued=True)
    if status == CANCELLED:
        unit = (request_cancel(row.id, now), *unit)
    results = await state.writer.execute_many(unit)
    note_job(state.metrics, message, status, end.charge_micros)
    enqueue_deliveries(state.deliveries, deliveries_of(unit, results))
    if message.admission is not None:
        await state.admissions.release(row.id, message.admission)
    ending = Ending(status, error.status, "application/json", json.encode(error))
    state.inbox.deliver(row.id, Entry(0, 1, Kind.END, encode_ending(ending, with_body=True)))


async def give_up(state: State, job_ids: list[str]) -> None:
    """Cancel those of the jobs that have not begun and whose callers still wait."""
    job_ids = [job_id for job_id in job_ids if state.inbox.has_waiter(job_id)][:_PAGE]
    if not job_ids:
        return
    try:
        async with state.database.read() as session:
            unstarted = (col(JobRow.id).in_(job_ids), JobRow.status == QUEUED, col(JobRow.started_ms).is_(None))
            rows = (await session.exec(select(JobRow).where(*unstarted).options(*LIGHT))).all()
        for row in rows:
            with suppress(StaleError):  # it has begun
                await end_waiting(state, row, model_busy())
                await queue_of(state, row.kind).abort(row.id)
    except (CommitError, SQLAlchemyError, RedisError, OSError) as error:
        log.warning("callers_wait_on", error=repr(error), count=len(job_ids), first=public_id(job_ids[0]))
