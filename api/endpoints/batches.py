"""/v1/batches: create, list, get, cancel, retry; their items and results."""

from collections.abc import AsyncIterator
from typing import Any, Final

from msgspec import UNSET, Raw, json
from msgspec.structs import asdict, replace

from api.batch_errors import (
    BatchInputError,
    BatchNotFinishedError,
    InvalidCompletionWindowError,
    InvalidInputFileError,
    NothingToRetryError,
    UnsupportedEndpointError,
)
from api.batch_inputs import store_input
from api.batch_lines import LineChecker
from api.batch_results import list_matching, result_lines, to_item
from api.call import Call
from api.http import REQUESTS, ByteStream, Routes
from api.notice import Notice
from api.once import keep_answer
from api.own_batches import BatchNotFoundError, find_own_batch, to_batch
from api.own_files import find_readable_file
from api.shown import check_shown
from api.submission import Origin, origin_of
from api.webhooks import read_notice
from shared.admission.errors import QueueFullError
from shared.batches.items import item_id, item_span
from shared.batches.queries import change_batch, list_items
from shared.batches.queries import list_batches as query_batches
from shared.batches.schemas import (
    BATCH_PREFIX,
    CANCELLING,
    ENDPOINTS,
    ITEM_PREFIX,
    RUNNING,
    VALIDATING,
    Batch,
    BatchErrors,
    BatchItemPage,
    BatchPage,
    BatchResultsQuery,
    CreateBatchRequest,
    ListBatchesQuery,
    ListItemsQuery,
    RetryBatchRequest,
)
from shared.batches.tables import BatchRow
from shared.clock import now_ms
from shared.dialects import split_mount
from shared.errors import (
    InvalidCursorError,
    InvalidFieldError,
    NotFoundError,
    PermissionDeniedError,
    StorageUnavailableError,
    UnprocessableEntityError,
)
from shared.files.errors import UploadGoneError, UploadNotFoundError
from shared.files.schemas import BATCH_PURPOSE
from shared.files.tables import FileRow
from shared.ids import new_ulid, parse_id
from shared.jobs.schemas import CANCELLED, EXPIRED, FAILED
from shared.lists import cursor_page
from shared.request_logs.redaction import policy_of, strictest
from shared.webhooks.events import BATCH_ENDS, UnknownEventTypeError
from shared.webhooks.statements import EVERYBODY
from shared.webhooks.tables import WebhookEndpointRow
from shared.webhooks.urls import WebhookUrlNotAllowedError

routes = Routes("Batches")
PATH: Final = "/v1/batches"
NDJSON: Final = "application/x-ndjson"
_ALWAYS: Final = "24h"
_OUTPUT_TTL_S: Final = 30 * 86_400
_SECONDS_OF: Final = {"m": 60, "h": 3600, "d": 86_400}


@routes.post(
    PATH,
    raises=(
        UnsupportedEndpointError, InvalidCompletionWindowError, InvalidInputFileError, BatchInputError,
        UploadNotFoundError, UploadGoneError, QueueFullError, StorageUnavailableError, NotFoundError,
        WebhookUrlNotAllowedError, UnknownEventTypeError,
    ),
)  # fmt: skip
async def create_batch(call: Call, body: CreateBatchRequest) -> Batch:
    """Send the requests of a file, or of `requests`, as one batch; each line becomes a job.

    The lines are checked before any of them runs: one that cannot be used and the batch has failed, with its `errors`.
    """
    mount, body.endpoint = split_mount(body.endpoint)
    call.dialect = mount or call.dialect
    window_s = _check(call, body)
    _check_room(call)
    notice = await read_notice(call, body.webhook, body.webhook_endpoint_ids, BATCH_ENDS)
    file = await _file_of(call, body)
    row = _new_batch(call, body.endpoint, body.completion_window, window_s, file)
    row.metadata_ = json.encode(body.metadata).decode() if body.metadata else None
    row.start, row.item_events = body.start, body.item_events
    if body.output_expires_after is not None:
        row.output_ttl_s = body.output_expires_after.seconds
    row.notify = notice.notify or EVERYBODY
    return await _store(call, row, file if body.requests is not None else None, notice)


def _check(call: Call, body: CreateBatchRequest) -> int:
    """Return the seconds of the window; raises what is wrong with the request itself."""
    if body.endpoint not in ENDPOINTS or body.endpoint not in call.request.app[REQUESTS]:
        raise UnsupportedEndpointError(body.endpoint)
    windows = {_ALWAYS, *call.state.settings.batch_windows.split(",")}
    if body.completion_window not in windows:
        raise InvalidCompletionWindowError(windows)
    if (body.input_file_id is None) == (body.requests is None):
        raise InvalidFieldError(["body", "input_file_id"], "Expected either `input_file_id` or `requests`")
    return int(body.completion_window[:-1]) * _SECONDS_OF[body.completion_window[-1]]


async def _file_of(call: Call, body: CreateBatchRequest) -> FileRow:
    if body.requests is not None:
        await _check_inline(call, body.endpoint, body.requests)
        return await store_input(call, "requests.jsonl", _each(body.requests))
    file = await find_readable_file(call, body.input_file_id or "")
    if file.purpose != BATCH_PURPOSE:
        raise InvalidInputFileError("The file has another purpose than `batch`.")
    return file


async def _each(lines: list[Raw]) -> AsyncIterator[bytes]:
    for line in lines:
        yield bytes(line).replace(b"\n", b" ").replace(b"\r", b" ")  # white space between members, nothing else


async def _check_inline(call: Call, endpoint: str, lines: list[Raw]) -> None:
    """Raise `BatchInputError` if a line cannot be used."""
    checker = LineChecker(call.state, call.caller, call.request.app[REQUESTS][endpoint], call.dialect)
    for number, line in enumerate(lines, 1):
        await checker.check(number, bytes(line))
    checker.finish()
    if checker.errors:
        raise BatchInputError(BatchErrors(data=checker.errors))


def _new_batch(call: Call, endpoint: str, window: str, window_s: int, file: FileRow) -> BatchRow:
    now = now_ms()
    return BatchRow(
        id=new_ulid(),
        shard=call.state.shard,
        user_id=call.caller.user_id,
        organization_id=call.caller.organization_id,
        key_id=call.caller.key_id,
        status=VALIDATING,
        endpoint=endpoint,
        input_file_id=file.id,
        completion_window=window,
        request_id=call.request_id,
        origin=_encode_origin(call, file),
        output_ttl_s=_OUTPUT_TTL_S,
        output_file_id=new_ulid(),
        error_file_id=new_ulid(),
        created_ms=now,
        expires_ms=now + window_s * 1000,
    )


def _encode_origin(call: Call, file: FileRow) -> str:
    """Return where a batch comes from, with the stricter one of the policy of now and that of its lines."""
    its_policy = policy_of(file.content_policy, file.organization_id, has_headers=True)
    policy = strictest(call.caller.content_policy, its_policy)
    return json.encode(replace(origin_of(call), content_policy=policy)).decode()


def _origin(row: BatchRow) -> Origin:
    return json.decode(row.origin or "{}", type=Origin)


def _check_room(call: Call) -> None:
    """Raise `QueueFullError` while the queue takes no more."""
    if call.state.load.is_full:
        raise QueueFullError


async def _store(call: Call, row: BatchRow, file: FileRow | None, notice: Notice | None = None) -> Batch:
    """Store the batch and its answer in one transaction; nothing that follows can fail."""
    async with call.state.database.transaction() as session:
        session.add(row)
        if notice is not None and notice.endpoint is not None:
            notice.endpoint.object_id = row.id
            session.add(WebhookEndpointRow(**asdict(notice.endpoint)))
        if file is not None:
            session.add(file)
        batch = await to_batch(session, row)
        batch.sluice.webhook = UNSET if notice is None else notice.shown or UNSET
        await keep_answer(session, call, batch)
        call.upload_id = None  # from here on nobody can tell whether it is stored but the database
    call.state.has_new_batch.set()
    return batch


@routes.get(PATH, raises=(InvalidCursorError,))
async def list_batches(call: Call, query: ListBatchesQuery) -> BatchPage:
    """List the caller's batches, newest first."""
    after = None
    if query.after is not None and (after := parse_id(query.after, BATCH_PREFIX)) is None:
        raise InvalidCursorError(f"`{query.after}` is not the id of a batch.", param="after")
    async with call.state.database.read() as session:
        rows, has_more = await query_batches(session, call.caller.user_id, after, query.limit)
        data = [await to_batch(session, row) for row in rows]
    return cursor_page(data, has_more=has_more)


@routes.get(PATH + "/{batch_id}", raises=(BatchNotFoundError,))
async def get_batch(call: Call, batch_id: str) -> Batch:
    """Get a batch; its counts move while it runs."""
    async with call.state.database.read() as session:
        row = await find_own_batch(call, session, batch_id)
        batch = await to_batch(session, row)
    if row.finished_ms is None:
        call.headers["openai-poll-after-ms"] = str(min(max((now_ms() - row.created_ms) // 10, 500), 30_000))
    return batch


@routes.post(PATH + "/{batch_id}/cancel", raises=(BatchNotFoundError,))
async def cancel_batch(call: Call, batch_id: str) -> Batch:
    """Cancel a batch: what has not begun does not begin, what runs is stopped, what is done stays."""
    async with call.state.database.transaction() as session:
        row = await find_own_batch(call, session, batch_id)
        await change_batch(session, row.id, (VALIDATING, RUNNING), status=CANCELLING, cancelling_ms=now_ms())
        await session.refresh(row)
        return await to_batch(session, row)


@routes.get(PATH + "/{batch_id}/requests", raises=(BatchNotFoundError, InvalidCursorError))
async def list_batch_requests(call: Call, batch_id: str, query: ListItemsQuery) -> BatchItemPage:
    """List the lines of a batch and their jobs, in the order of the input."""
    after = None
    if query.after is not None and (after := parse_id(query.after, ITEM_PREFIX, "job_")) is None:
        raise InvalidCursorError(f"`{query.after}` is not the id of an item.", param="after")
    async with call.state.database.read() as session:
        row = await find_own_batch(call, session, batch_id)
        start = after or item_span(row.id)[0]
        rows = await list_items(session, row.id, start, query.limit + 1, query.status)
    data = [to_item(item) for item in rows[: query.limit]]
    return cursor_page(data, has_more=len(rows) > query.limit)


@routes.get(PATH + "/{batch_id}/results", raises=(BatchNotFoundError,), media_type=NDJSON)
async def list_batch_results(call: Call, batch_id: str, query: BatchResultsQuery) -> ByteStream:
    """Read the results there are in the order of the input, also while the batch runs.

    `X-Incomplete` tells whether lines are missing that are still to come, `X-Last-Line` which line is the last.
    """
    async with call.state.database.read() as session:
        row = await find_own_batch(call, session, batch_id)
    await check_shown(call, row, _origin(row).content_policy)
    if query.follow_retries and row.user_id != call.caller.user_id:
        raise PermissionDeniedError("Only the owner of a batch sees its retries in its results.")
    start = item_id(row.id, query.starting_line - 1)
    pieces = result_lines(call, row, start, with_input="input" in query.include, follow_retries=query.follow_retries)
    return ByteStream(pieces=pieces, content_type=NDJSON)


@routes.post(
    PATH + "/{batch_id}/retry",
    raises=(BatchNotFoundError, BatchNotFinishedError, NothingToRetryError, QueueFullError, StorageUnavailableError),
)
async def retry_batch(call: Call, batch_id: str, body: RetryBatchRequest) -> Batch:
    """Send the lines that did not succeed again, as a new batch; the old one stays as it is."""
    if (body.statuses is None) == (body.custom_ids is None):
        raise UnprocessableEntityError(["body", "statuses"], "Expected either `statuses` or `custom_ids`")
    async with call.state.database.read() as session:
        old = await find_own_batch(call, session, batch_id)
    origin = _origin(old)
    await check_shown(call, old, origin.content_policy)
    _check_room(call)
    if old.finished_ms is None:
        raise BatchNotFinishedError(batch_id)
    statuses: tuple[Any, ...] = tuple(body.statuses or (FAILED, CANCELLED, EXPIRED))
    lines = list_matching(call, old, statuses, None if body.custom_ids is None else frozenset(body.custom_ids))
    file = await store_input(call, f"{BATCH_PREFIX}{old.id}_retry.jsonl", lines)
    its_policy = policy_of(origin.content_policy, old.organization_id, has_headers=True)
    file.content_policy = strictest(call.caller.content_policy, its_policy)
    if not file.lines:
        raise NothingToRetryError
    window_s = (old.expires_ms - old.created_ms) // 1000
    call.dialect = origin.dialect or call.dialect
    row = _new_batch(call, old.endpoint, old.completion_window, window_s, file)
    row.retry_of, row.metadata_, row.output_ttl_s, row.start = old.id, old.metadata_, old.output_ttl_s, old.start
    row.item_events, row.notify = old.item_events, old.notify
    return await _store(call, row, file)
