"""/v1/responses: make a response, read it, follow its events, cancel it, list its input, delete it."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import json

from api.call import Call, Draft
from api.frames import keep_alive
from api.http import EventStream, Reply, Routes
from api.idempotency import REPLAYED, Earlier
from api.limits import Estimate
from api.own_jobs import cancel, find_readable_job, remove, wait_for_result, wait_until_over
from api.prefer import Prefer
from api.render import gone, is_gone, polling_headers
from api.respond import ERRORS, preference_of, respond_or_stream, submit_once
from api.response_inputs import store_input
from api.responses import follow_response, new_response, read_response, response_form
from api.submission import Submission, find_router
from shared.errors import GoneError, InvalidCursorError, JobNotFinishedError
from shared.jobs.queries import get_request
from shared.jobs.schemas import RESPONSE, Job, alias_of, public_id
from shared.jobs.tables import JobRow
from shared.models.schemas import CHAT_TYPES
from shared.responses.errors import (
    CREATE_ERRORS,
    EventsGoneError,
    NotCancellableError,
    ResponseNotFoundError,
)
from shared.responses.estimates import estimate_prompt
from shared.responses.items import own_items
from shared.responses.schemas import (
    GetResponseQuery,
    InputItemPage,
    ListInputItemsQuery,
    Response,
    ResponseDeleted,
    ResponseEvent,
    ResponseRequest,
)

routes = Routes("Responses")
PATH: Final = "/v1/responses"
_CANCEL_S: Final = 2.0
"""Longest wait for a worker to end what was cancelled."""


async def prepare_response(draft: Draft, body: ResponseRequest) -> Submission:
    """Return what this request asks for, and put its body into the form that jobs keep."""
    body.check()
    router = await find_router(draft, body.model, CHAT_TYPES)
    items = await store_input(draft, body)
    return Submission(
        kind=RESPONSE,
        endpoint=PATH,
        router=router,
        model=body.model,
        stream=bool(body.stream),
        store=body.store,
        metadata=body.metadata,
        end_user=body.user,
        estimate=Estimate(prompt_tokens=estimate_prompt(body, items), output_tokens=body.max_output_tokens or 0),
        is_flex=body.service_tier == "flex",
        background=bool(body.background),
    )


@routes.post(PATH, raises=(*ERRORS, *CREATE_ERRORS), accepted=Job, prepare=prepare_response)
async def create_response(call: Call, body: ResponseRequest) -> Reply[Response] | EventStream[ResponseEvent]:
    """Make a response.

    With `stream: true` the answer is a stream of typed events, numbered from 0; a broken one is resumed by getting the
    response with `stream=true` and `starting_after`.  With `background: true` the answer comes at once.
    """
    submission = await prepare_response(call, body)
    if body.background and not body.stream and not preference_of(call).respond_async:
        return await _accept(call, body, submission)
    return await respond_or_stream(call, submission, lambda job: response_form(body, job))


async def _accept(call: Call, body: ResponseRequest, submission: Submission) -> Reply[Response]:
    """Make the job and return the response before anything has happened to it."""
    found = await submit_once(call, submission, Prefer(respond_async=True))
    if not isinstance(found, Earlier):
        call.headers |= {"retry-after": "1", "openai-poll-after-ms": "500"}
        return Reply(body=json.encode(new_response(body, found.job)))
    row = found.row
    call.headers |= {"x-job-id": public_id(row.id), REPLAYED: "true"}
    if is_gone(row):
        raise gone(row)
    call.headers |= polling_headers(row)
    return Reply(body=await read_response(call, row))


async def _find(call: Call, response_id: str) -> JobRow:
    """Return the job of a stored response of the caller; raises `ResponseNotFoundError` or `GoneError`."""
    missing = ResponseNotFoundError(response_id[:100])
    row = await find_readable_job(call, response_id, missing)
    if row.kind != RESPONSE or row.store is False:
        del call.headers["x-job-id"]
        raise missing
    return row


@routes.get(PATH + "/{response_id}", raises=(ResponseNotFoundError, GoneError, EventsGoneError, InvalidCursorError))
async def get_response(
    call: Call, response_id: str, query: GetResponseQuery
) -> Reply[Response] | EventStream[ResponseEvent]:
    """Get a response in whatever state it is, or follow its events.

    `stream=true` sends all events, or those behind `starting_after` or `Last-Event-ID`, while the response is made and
    as long as it is kept.
    """
    if query.stream:
        row = await _find_events(call, response_id)
        return EventStream(keep_alive(call, row, follow_response(call, row, _cursor(call, query))))
    row = await wait_for_result(call, await _find(call, response_id), query.wait)
    call.headers |= polling_headers(row)
    return Reply(body=await read_response(call, row))


async def _find_events(call: Call, response_id: str) -> JobRow:
    try:
        return await _find(call, response_id)
    except GoneError as error:
        raise EventsGoneError(error.message, tombstone=error.tombstone) from error


def _cursor(call: Call, query: GetResponseQuery) -> int:
    if query.starting_after is not None:
        return query.starting_after
    last = call.request.headers.get("Last-Event-ID")
    if last is None:
        return -1
    if not (last.isascii() and last.isdecimal() and len(last) < 16):
        raise InvalidCursorError(f"`{last[:100]}` is not the number of an event.", param="Last-Event-ID")
    return int(last)


@routes.post(PATH + "/{response_id}/cancel", raises=(ResponseNotFoundError, GoneError, NotCancellableError))
async def cancel_response(call: Call, response_id: str) -> Reply[Response]:
    """Cancel a response in the background; repeated, or too late, it changes nothing."""
    row = await _find(call, response_id)
    if not row.background:
        raise NotCancellableError
    row = await wait_until_over(call, await cancel(call, row), _CANCEL_S)
    return Reply(body=await read_response(call, row))


@routes.delete(PATH + "/{response_id}", raises=(ResponseNotFoundError, GoneError, JobNotFinishedError))
async def delete_response(call: Call, response_id: str) -> ResponseDeleted:
    """Remove request, answer and events, after a running response was cancelled; a tombstone stays."""
    row = await _find(call, response_id)
    await remove(call, row)
    return ResponseDeleted(id=alias_of(row.kind, row.id), deleted=True)


@routes.get(PATH + "/{response_id}/input_items", raises=(ResponseNotFoundError, GoneError, InvalidCursorError))
async def list_input_items(call: Call, response_id: str, query: ListInputItemsQuery) -> InputItemPage:
    """List the items of a response's own input, without those of the responses it continues."""
    row = await _find(call, response_id)
    async with call.state.database.read() as session:
        items = own_items(await get_request(session, row.id), row.id)
    if query.order == "desc":
        items.reverse()
    start = _place_behind(items, query.after)
    shown = items[start : start + query.limit]
    return InputItemPage(
        data=shown,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
        has_more=start + query.limit < len(items),
    )


def _place_behind(items: Sequence[dict[str, Any]], item_id: str | None) -> int:
    if item_id is None:
        return 0
    ids = [item["id"] for item in items]
    if item_id not in ids:
        raise InvalidCursorError(f"`{item_id[:100]}` is not an item of this input.", param="after")
    return ids.index(item_id) + 1
