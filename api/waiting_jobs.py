"""Jobs that have not begun: cancel one, or those whose callers have waited long enough."""

from contextlib import suppress
from typing import Final

import structlog
from msgspec import json
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from api.state import State, queue_of
from shared.admission.records import decode_admission
from shared.clock import now_ms
from shared.documents.statements import fail_document
from shared.errors import StoredError
from shared.group_commit.units import CommitError, StaleError
from shared.ids import new_ulid
from shared.jobs.messages import message_of
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import CANCELLED, INGESTION, QUEUED, public_id
from shared.jobs.statements import FinishedJob, NewJobEvent, finish_job, insert_event, request_cancel
from shared.jobs.tables import JobRow
from shared.replies.entries import Ending, Entry, Kind, encode_ending
from shared.usage.schemas import zero_usage
from shared.usage.statements import NewCharge, insert_charge
from shared.webhooks.job_events import tell_end
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.statements import deliveries_of

log = structlog.get_logger()
CANCELLED_ERROR: Final = StoredError(
    message="The job was cancelled.", type="invalid_request_error", param=None, code="job_cancelled", status=409
)
_BUSY_ERROR: Final = StoredError(
    message="Model is too busy, please try again later.", type="server_error", param=None, code="model_busy", status=503
)
_PAGE: Final = 500
"""Most jobs looked at together."""


async def end_waiting(state: State, row: JobRow, error: StoredError, status: str = CANCELLED) -> None:
    """End a job that has not begun, and tell its caller this error; raises `StaleError` if it has begun."""
    now, usage = now_ms(), zero_usage()
    finished = FinishedJob(
        id=row.id, attempt=row.attempt, status=status, finished_ms=now,
        result_expires_ms=now + row.result_ttl_s * 1000, error=json.encode(error).decode(),
        usage=json.encode(usage).decode(),
    )  # fmt: skip
    charge = NewCharge(
        job_id=row.id, status=status, created_ms=now, user_id=row.user_id, organization_id=row.organization_id,
        key_id=row.key_id, router_id=row.router_id, router_name=row.router_name, kind=row.kind, prompt_tokens=0,
        completion_tokens=0, amount_micros=0,
    )  # fmt: skip
    event_id = new_ulid()
    event = NewJobEvent(job_id=row.id, id=f"evt_{event_id}", type=f"job.{status}", created_ms=now)
    unit = [
        finish_job(finished, only_queued=True),
        insert_charge(charge),
        insert_event(event),
        *tell_end(message_of(row), event_id, status, now, state.settings.effective_public_url()),
    ]
    if row.kind == INGESTION:
        unit.append(fail_document(row.id, error.message))
    if status == CANCELLED:
        unit.insert(0, request_cancel(row.id, now))
    results = await state.writer.execute_many(unit)
    enqueue_deliveries(state.deliveries, deliveries_of(unit, results))
    if (admission := decode_admission(row.admission)) is not None:
        await state.admissions.release(row.id, admission)
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
                await end_waiting(state, row, _BUSY_ERROR)
                await queue_of(state, row.kind).abort(row.id)
    except (CommitError, SQLAlchemyError, RedisError, OSError) as error:
        log.warning("callers_wait_on", error=repr(error), count=len(job_ids), first=public_id(job_ids[0]))
