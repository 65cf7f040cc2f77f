"""A request that a stock client sends again by itself, without a key, because the answer did not reach it.

Such a client says how often it has tried (`x-stainless-retry-count`).  The repetition gets the answer of the job that
the first try made, unless that one's answer was delivered.  A job that still runs is found in the database, one that
ended when its caller had gone by a note in Redis: losing the note costs a second job, nothing else.  A job that
searched is noted when it is made, since its row has what was found instead of what was asked.
"""

import hashlib
from typing import Final

import structlog
from redis.exceptions import RedisError
from sqlmodel import col, select

from api.call import Call
from api.refusals import retry_count
from shared.clock import now_ms
from shared.ids import oldest_ulid
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import IN_PROGRESS, QUEUED, TERMINAL, WITH_RESULT
from shared.jobs.tables import JobRow

log = structlog.get_logger()
_ATTACH_S: Final = 900
_MADE: Final = "made "
"""Begins the note of a job that searched; if that job failed, its caller was told, and tries anew."""
_REFUSED: Final = TERMINAL - WITH_RESULT


async def find_unanswered(call: Call, endpoint: str) -> JobRow | None:
    """Return the job whose answer this request wants to hear again; None if it is a first one."""
    if not retry_count(call) or not call.state.settings.attach_keyless_retries:
        return None
    try:
        noted = await call.state.redis.getdel(_note(call, endpoint))
    except (RedisError, OSError) as error:
        log.warning("repetition_not_recognized", error=repr(error))
        noted = None
    async with call.state.database.read() as session:
        if noted is not None:
            row = await session.get(JobRow, noted.decode().removeprefix(_MADE), options=LIGHT)
            was_told = noted.startswith(_MADE.encode()) and row is not None and row.status in _REFUSED
            return None if was_told else row
        same = (
            col(JobRow.status).in_((QUEUED, IN_PROGRESS)),
            col(JobRow.finished_ms).is_(None),
            col(JobRow.cancel_requested_ms).is_(None),
            JobRow.id >= oldest_ulid(now_ms() - _ATTACH_S * 1000),
            JobRow.user_id == call.caller.user_id,
            JobRow.key_id == call.caller.key_id,
            JobRow.endpoint == endpoint,
            JobRow.request == call.body,
            col(JobRow.batch_id).is_(None),
        )
        newest = select(JobRow).where(*same).order_by(col(JobRow.id).desc()).limit(1).options(*LIGHT)
        row = (await session.exec(newest)).first()
    return None if row is None or await call.state.withdrawals.has(row.id) else row


async def note_searched(call: Call, endpoint: str, job_id: str) -> None:
    """Remember a job that was just made and whose request was changed by a search."""
    if call.state.settings.attach_keyless_retries:
        await _remember(call, endpoint, _MADE + job_id)


async def note_unanswered(call: Call, endpoint: str, job_id: str) -> None:
    """Remember a job that has ended, but whose caller had gone."""
    await _remember(call, endpoint, job_id)


async def _remember(call: Call, endpoint: str, note: str) -> None:
    try:
        await call.state.redis.set(_note(call, endpoint), note, ex=_ATTACH_S)
    except (RedisError, OSError) as error:
        log.warning("answer_not_kept_for_repetition", error=repr(error))


def has_left(call: Call) -> bool:
    """Return whether the caller has closed his connection."""
    transport = call.request.transport
    return transport is None or transport.is_closing()


def _note(call: Call, endpoint: str) -> str:
    caller = f"{call.caller.user_id}\n{call.caller.key_id}\n{endpoint}\n".encode()
    return f"sluice:unanswered:{hashlib.sha256(caller + call.received).hexdigest()}"
