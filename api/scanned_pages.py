"""The text of a held ingestion's file, page by page; scanned pages by jobs of a model that reads images."""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from api.call import Draft
from api.limits import Estimate, admit
from api.recognition import find_reader, request_for, text_in
from api.render import error_of
from api.state import State, queue_of
from api.submission import Origin, Submission, new_job
from shared.admission.errors import QueueFullError
from shared.batches.items import item_id, line_of
from shared.batches.statements import insert_item
from shared.clock import now_ms
from shared.directory import Router
from shared.errors import (
    ApiError,
    AuthenticationError,
    QueueUnavailableError,
    RateLimitError,
    StorageUnavailableError,
    StoredError,
    WaitExceededError,
)
from shared.jobs.entries import queue_entry
from shared.jobs.messages import message_of
from shared.jobs.queries import get_light, get_result
from shared.jobs.schemas import COMPLETED, OCR, TERMINAL
from shared.jobs.tables import JobRow
from shared.parsing.pool import ParsingError
from shared.parsing.protocol import ParsedPage, ParseRequest

_ENDPOINT: Final = "/v1/documents"
_DRAWN: Final = 8
"""Pages that are pictures in memory at the same time."""
_AT_ONCE: Final = 4
_LOOK_S: Final = 0.5
_LONGEST_WAIT_S: Final = 5.0


class ScanFailedError(Exception):
    """A page cannot be read; the ingestion ends with this error."""

    def __init__(self, error: StoredError) -> None:
        super().__init__(error.message)
        self.error = error


class _Scan(Struct, frozen=True):
    """The job that is held back, and who reads for it."""

    state: State
    row: JobRow
    draft: Draft
    reader: Router


async def read_pages(state: State, row: JobRow) -> list[str] | None:
    """Return the texts of all pages; None if none has to be read by a model, or the file cannot be read at all.

    Raises `ScanFailedError`, `FileGoneError`, and what says that a store, the database or Redis is away.
    """
    caller = await state.keys.find_owner(row.user_id, row.key_id)
    if caller is None:
        raise ScanFailedError(AuthenticationError("The key of the job has ended.").stored())
    draft = Draft(caller=caller, state=state, request_id=row.request_id, headers={}, dialect=row.dialect)
    reader = await find_reader(draft)
    if reader is None:
        return None
    data = await state.files.read(row.id)
    try:
        pages = (await state.parsers.parse(ParseRequest(type="pdf", data=data))).pages
        scanned = [page.number for page in pages if page.is_scanned]
        texts = await _read_all(_Scan(state, row, draft, reader), data, scanned)
    except ParsingError:  # the job finds that out, too, and says so
        return None
    return [texts.get(page.number, page.text) for page in pages]


async def _read_all(scan: _Scan, data: bytes, numbers: Sequence[int]) -> dict[int, str]:
    """Return the texts of these pages; a few are drawn at a time."""
    texts: dict[int, str] = {}
    for start in range(0, len(numbers), _DRAWN):
        wanted = numbers[start : start + _DRAWN]
        jobs = {number: await _find(scan, number) for number in wanted}
        missing = [number for number, job in jobs.items() if job is None]
        drawn = list[ParsedPage]()
        if missing:
            request = ParseRequest(type="pdf", data=data, pages=missing, as_pictures=True)
            drawn = (await scan.state.parsers.parse(request)).pages
        slots = asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for page in drawn:
                    group.create_task(_send(scan, page, slots))
        except* ScanFailedError as failures:
            raise failures.exceptions[0] from None
        for number in wanted:
            texts[number] = await _text_of(scan, number)
    return texts


def _page_job(scan: _Scan, number: int) -> str:
    """Return the id of the job that reads a page; never that of the ingestion itself."""
    line = number + 1
    return item_id(scan.row.id, line if line < line_of(scan.row.id) else line + 1)


async def _find(scan: _Scan, number: int) -> JobRow | None:
    async with scan.state.database.read() as session:
        return await session.get(JobRow, _page_job(scan, number))


async def _send(scan: _Scan, page: ParsedPage, slots: asyncio.Semaphore) -> None:
    """Have a page read; returns once its job is over, raises `ScanFailedError` if it is refused."""
    state, row, job_id = scan.state, scan.row, _page_job(scan, page.number)
    submission = Submission(
        kind=OCR, endpoint=_ENDPOINT, router=scan.reader, model=scan.reader.name,
        estimate=Estimate(prompt_tokens=0, output_tokens=0),
    )  # fmt: skip
    draft = Draft(
        caller=scan.draft.caller, state=state, request_id=row.request_id, body=request_for(scan.reader, page),
        headers={}, dialect=row.dialect,
    )  # fmt: skip
    origin = Origin(
        client_request_id=row.client_request_id, traceparent=row.traceparent, client_address=row.client_address,
        user_agent=row.user_agent, retry_count=row.retry_count, request_headers=row.request_headers,
        content_policy=row.content_policy,
    )  # fmt: skip
    async with slots:
        while True:
            try:
                admission = await admit(draft, scan.reader, submission.estimate, job_id)
                break
            except (RateLimitError, QueueFullError, QueueUnavailableError, StorageUnavailableError) as error:
                await _check_wanted(scan, error)
                await asyncio.sleep(min(float(error.extra_headers.get("retry-after", 1)), _LONGEST_WAIT_S))
            except ApiError as error:
                raise ScanFailedError(error.stored()) from error
        job = new_job(draft, origin, submission, job_id, admission, row.band)
        await state.writer.execute_many((insert_item(job),))
        queue_of(state, OCR).put(queue_entry(message_of(job, job.request), job))
        await _wait(scan, job_id)


async def _check_wanted(scan: _Scan, reason: ApiError) -> None:
    """Raise `ScanFailedError` with this reason if the ingestion is over, or came too late to begin."""
    async with scan.state.database.read() as session:
        row = await get_light(session, scan.row.id)
    if row.finished_ms is not None or row.expires_ms <= now_ms():
        raise ScanFailedError(reason.stored())


async def _wait(scan: _Scan, job_id: str) -> JobRow:
    while True:
        async with scan.state.database.read() as session:
            job = await get_light(session, job_id)
        if job.status in TERMINAL:
            return job
        await _check_wanted(scan, WaitExceededError("The scanned pages were not read in time."))
        await scan.state.done.wait(job_id, _LOOK_S)


async def _text_of(scan: _Scan, number: int) -> str:
    """Return what the job of a page has read; raises `ScanFailedError`."""
    job = await _wait(scan, _page_job(scan, number))
    if job.status != COMPLETED:
        error = error_of(job)
        assert error is not None  # noqa: S101  # a job that failed says why
        raise ScanFailedError(error)
    async with scan.state.database.read() as session:
        result = await get_result(session, job.id)
    return "" if result is None else text_in(result.body)
