"""Answer a caller whose job was accepted: wait for the reply and send it whole, as a stream, or send a 202."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import structlog
from msgspec import json
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from api.call import Call
from api.frames import read_log
from api.http import EventStream, Reply
from api.idempotency import id_of_key
from api.keyless import has_left, note_unanswered
from api.prefer import STRICT
from api.render import dropped_of, error_of, to_job
from api.stream_forms import StreamForm, replayed
from api.submit import Submitted
from shared.errors import ReplayedError, StoredError, WaitExceededError
from shared.group_commit.units import CommitError
from shared.idempotency.statements import answer_later
from shared.jobs.queries import LIGHT, get_light
from shared.jobs.schemas import TERMINAL, WITH_RESULT, public_id
from shared.jobs.statements import NewJob, run_unread
from shared.jobs.tables import JobResultRow, JobRow
from shared.replies.entries import START, Ending, Entry, Kind, decode_ending, encode_ending, is_next
from shared.replies.inbox import Inbox, Waiter

log = structlog.get_logger()
_LOOK_S: Final = 5.0
"""How often a silent stream looks whether its reader is still there."""
_LOOK_UP_PAGE: Final = 500
_FROM_DATABASE: Final = (0, 2)
"""Position of an END that the database told; it follows nothing, so the log is read from there, too."""
DROPPED: Final = "x-sluice-dropped-params"


async def answer(call: Call, submitted: Submitted) -> Reply[Any]:
    """Wait for the reply and return it.

    Raises:
        ReplayedError: the job failed; carries its status and error.
        WaitExceededError: the caller's own limit has passed.

    """
    job, prefer, waiter = submitted.job, submitted.prefer, submitted.waiter
    if waiter is None:
        call.headers["Preference-Applied"] = prefer.deferred
        return _accepted(call, job)
    if prefer.applied:
        call.headers["Preference-Applied"] = prefer.applied
    try:
        ending = await _wait_for_end(waiter, prefer.wait_s)
    finally:
        call.state.inbox.forget(job.id)
    if ending is None:
        call.headers["Location"] = f"/v1/jobs/{public_id(job.id)}"
        if prefer.respond_async:
            call.headers["Preference-Applied"] = prefer.deferred
            await _note_deferred(call, job)
            async with call.state.database.read() as session:
                return _accepted(call, await get_light(session, job.id))
        raise WaitExceededError(f"The job did not finish within {prefer.wait_s:.0f} s; it goes on.")
    if has_left(call):
        await note_unanswered(call, job.endpoint, job.id)
    if ending.dropped:
        name_dropped(call, ending.dropped)
    body = ending.body if ending.body is not None else await _read_body(call, job.id)
    if ending.http_status >= 400:
        raise replayed(json.decode(body, type=StoredError))
    return Reply(body=body, content_type=ending.content_type)


async def _note_deferred(call: Call, job: NewJob) -> None:
    """Note that the answer of the job's key is a 202, also once the job is over."""
    if job.idempotency_key is None:
        return
    try:
        key_id = id_of_key(call, job.endpoint, job.idempotency_key)
        await call.state.writer.execute_many((answer_later(key_id, job.id),))
    except CommitError as error:
        log.warning("answer_not_kept_for_repetition", error=repr(error))


def _accepted(call: Call, job: NewJob | JobRow) -> Reply[Any]:
    call.headers["Location"] = f"/v1/jobs/{public_id(job.id)}"
    call.headers["retry-after"] = "1"
    call.headers["openai-poll-after-ms"] = "500"
    shown = to_job(job)
    if call.notice is not None and call.notice.shown is not None:
        shown.webhook = call.notice.shown
    return Reply(body=json.encode(shown), status=202)


async def _wait_for_end(waiter: Waiter, wait_s: float | None) -> Ending | None:
    loop = asyncio.get_running_loop()
    deadline = None if wait_s is None else loop.time() + wait_s
    while True:
        left_s = None if deadline is None else max(deadline - loop.time(), 0.0)
        entry = await waiter.next(left_s)
        if entry is None:
            return None
        if entry.kind is Kind.END:
            return decode_ending(entry.data)


async def _read_body(call: Call, job_id: str) -> bytes:
    """Return the stored body, or error, of a finished job whose reply did not carry it."""
    async with call.state.database.read() as session:
        row = await session.get(JobRow, job_id, options=LIGHT)
        if row is not None and row.status not in WITH_RESULT and row.error is not None:
            return row.error.encode()
        return (await session.exec(select(JobResultRow.body).where(JobResultRow.job_id == job_id))).one()


def answer_stream(call: Call, submitted: Submitted, form: StreamForm) -> EventStream[Any]:
    """Return the answer as server-sent events of this form."""
    if submitted.waiter is None:
        raise TypeError("a caller who does not wait gets a 202")
    if submitted.prefer.is_strict:
        call.headers["Preference-Applied"] = STRICT
    return EventStream(_events(call, submitted.job, submitted.waiter, form))


async def _events(call: Call, job: NewJob, waiter: Waiter, form: StreamForm) -> AsyncIterator[bytes]:
    """Yield the events of the route's own stream; raises `ReplayedError` if there is an error before the first one."""
    is_over = False
    try:
        with call.state.readers.reading(job.id, counts=job.cancel_when_unread):
            async for event in _follow(call, job, waiter, form):
                yield event
            is_over = True
    except ReplayedError:
        is_over = True
        raise
    finally:
        call.state.inbox.forget(job.id)
        if not is_over and job.cancel_when_unread:
            call.state.readers.leave(job.id)


class _Sent:
    """How far a caller's stream is."""

    def __init__(self, form: StreamForm) -> None:
        self.form = form
        self.last = START
        """Position of the last entry that was taken."""
        self.has_begun = False
        """Whether anything was sent, be it a comment, after which an error can only be an event."""
        self.has_output = False
        """Whether a chunk was sent."""
        self.is_lost = False
        """Whether an entry is missing; the stored log has it at the end."""
        self.is_restarted = False
        """Whether a new attempt began after output was sent: a caller cannot take it back."""

    def take(self, entry: Entry) -> bytes:
        """Return the event of an entry; empty if it has none for the caller."""
        position = entry.position
        if position <= self.last:
            return b""  # sent again after its answer was lost
        self.is_lost = self.is_lost or not is_next(self.last, position)
        if self.is_lost or self.is_restarted:
            return b""
        if entry.kind is Kind.STARTED and self.has_output and not self.form.continues:
            self.is_restarted = True
            return b""
        self.last = position
        self.has_output = self.has_output or entry.kind is Kind.CHUNK
        self.has_begun = self.has_begun or self.has_output
        return self.form.chunk(position, entry.data) if entry.kind is Kind.CHUNK else b""


async def _follow(call: Call, job: NewJob, waiter: Waiter, form: StreamForm) -> AsyncIterator[bytes]:
    sent, silent_s, keep_alive_s = _Sent(form), 0.0, call.state.settings.keep_alive_s
    pause_s = min(_LOOK_S, keep_alive_s)
    if first := form.begin():
        sent.has_begun = True
        yield first
    while not sent.is_restarted:
        entry = await waiter.next(pause_s)
        if entry is None:
            if has_left(call):
                return
            silent_s += pause_s
            if silent_s >= keep_alive_s:
                silent_s, sent.has_begun = 0.0, True
                yield b": keep-alive\n\n"
            continue
        silent_s, events = 0.0, b""
        while entry is not None and entry.kind is not Kind.END:
            _note_dropped(call, entry)
            events += sent.take(entry)
            entry = waiter.entries.popleft() if waiter.entries else None
        if events:
            yield events
        if entry is not None:
            async for event in _finish(call, job, entry, sent):
                yield event
            return
    await _run_unread(call, job)
    yield await form.end(call, job.id, _restarted(job))


async def _run_unread(call: Call, job: NewJob) -> None:
    """Have the job go on without its caller, who is about to be told to read the result by id."""
    if not job.cancel_when_unread:
        return
    job.cancel_when_unread = False
    try:
        await call.state.writer.execute_many((run_unread(job.id),))
    except CommitError as error:
        log.warning("job_has_to_be_read", error=repr(error), job_id=public_id(job.id))


def name_dropped(call: Call, names: Sequence[str]) -> None:
    """Name parameters that were dropped, beside those that the route itself does not use."""
    known = call.headers.get(DROPPED)
    call.headers[DROPPED] = ", ".join([*known.split(", "), *names] if known else names)


def _note_dropped(call: Call, entry: Entry) -> None:
    """Name the parameters that the provider does not get; sent with the first event."""
    if entry.kind is Kind.STARTED and entry.data:
        name_dropped(call, entry.data.decode().split(", "))


async def _finish(call: Call, job: NewJob, end: Entry, sent: _Sent) -> AsyncIterator[bytes]:
    """Yield what is missing and how the stream ends; raises `ReplayedError` if nothing was sent yet."""
    if sent.is_lost or not is_next(sent.last, end.position):
        missed = [entry for entry in await read_log(call, job.id) if entry.position > sent.last]
        is_other = any(entry.attempt > sent.last[0] for entry in missed)
        if sent.has_output and is_other and not sent.form.continues:
            yield await sent.form.end(call, job.id, _restarted(job))  # the answer that was stored is another one
            return
        for entry in missed:
            sent.has_begun = True
            yield sent.form.chunk(entry.position, entry.data)
    if last := await _last_event(call, job, decode_ending(end.data), sent):
        yield last


async def _last_event(call: Call, job: NewJob, ending: Ending, sent: _Sent) -> bytes:
    error = None
    if ending.http_status >= 400:
        body = ending.body if ending.body is not None else await _read_body(call, job.id)
        error = json.decode(body, type=StoredError)
        if not sent.has_begun:
            raise replayed(error)
    return await sent.form.end(call, job.id, error)


def _restarted(job: NewJob) -> StoredError:
    message = f"The answer starts anew; it will be at /v1/jobs/{public_id(job.id)}/result."
    return StoredError(message=message, type="server_error", param=None, code="stream_restarted", status=503)


async def deliver_from_database(database: Any, inbox: Inbox, job_ids: list[str]) -> None:
    """Tell waiting callers about jobs that are over according to the database; their replies may have been lost."""
    try:
        for start in range(0, len(job_ids), _LOOK_UP_PAGE):
            page = job_ids[start : start + _LOOK_UP_PAGE]
            async with database.read() as session:
                statement = select(JobRow, JobResultRow.content_type).options(*LIGHT)
                joined = statement.join(JobResultRow, col(JobResultRow.job_id) == JobRow.id, isouter=True)
                found = await session.exec(joined.where(col(JobRow.id).in_(page), col(JobRow.status).in_(TERMINAL)))
                for row, content_type in found.all():
                    error, names = error_of(row), dropped_of(row)
                    http_status = 200 if error is None else error.status
                    ending = Ending(row.status, http_status, content_type or "application/json", None, names)
                    inbox.deliver(row.id, Entry(*_FROM_DATABASE, Kind.END, encode_ending(ending, with_body=False)))
    except (SQLAlchemyError, OSError) as error:
        log.warning("replies_not_looked_up", error=repr(error))
