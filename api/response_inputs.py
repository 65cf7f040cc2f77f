"""What a response is made of: its own input as items with ids, and what it continues."""

from typing import Any

from msgspec import ValidationError

from api.call import Draft
from api.render import gone, is_gone
from api.shown import keep_policy
from shared.errors import BodyTooLargeError, to_unprocessable
from shared.jobs.queries import find_job, get_light
from shared.jobs.schemas import RESPONSE, TERMINAL, WITH_RESULT
from shared.responses.errors import ItemNotFoundError, ResponseNotFinishedError, ResponseNotFoundError
from shared.responses.items import all_items, find_item, read_items, stored_request, to_items, ulid_of_item
from shared.responses.queries import find_job_of_item, get_request_and_answer
from shared.responses.schemas import ResponseRequest


async def store_input(draft: Draft, body: ResponseRequest) -> list[dict[str, Any]]:
    """Put the request into the form its job keeps; returns all items that the model reads.

    Raises:
        ResponseNotFoundError: the caller has no such response to continue.
        ResponseNotFinishedError: it is still being made.
        GoneError: it was removed.
        ItemNotFoundError: a reference leads nowhere.
        BodyTooLargeError: with what it continues, the request is too large.

    """
    if draft.is_stored:
        return read_items(draft.body)
    history = [] if body.previous_response_id is None else await _read_history(draft, body.previous_response_id)
    try:
        items = to_items(draft.body)
    except ValidationError as error:  # a number that Python cannot hold
        raise to_unprocessable(error, ["body", "input"]) from error
    items = [await _resolve(draft, item, index, [*history, *items]) for index, item in enumerate(items)]
    draft.body = stored_request(draft.body, items, history)
    most = draft.state.settings.max_body_bytes
    if history and len(draft.body) > most:
        raise BodyTooLargeError(f"The request and what it continues are larger than {most} bytes.")
    return [*history, *items]


async def _read_history(draft: Draft, response_id: str) -> list[dict[str, Any]]:
    async with draft.state.database.read() as session:
        row = await find_job(session, draft.caller.user_id, response_id)
        if row is None or row.kind != RESPONSE or row.store is False:
            raise ResponseNotFoundError(response_id[:100], "previous_response_id")
        if is_gone(row):
            raise gone(row)
        if row.status not in TERMINAL:
            raise ResponseNotFinishedError(response_id)
        request, answer = await get_request_and_answer(session, row.id)
    keep_policy(draft, row)
    return all_items(row.id, request, answer if row.status in WITH_RESULT else None)


async def _resolve(draft: Draft, item: dict[str, Any], index: int, near: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the item itself, or the one it refers to."""
    if item["type"] != "item_reference":
        return item
    item_id = item["id"]
    found = find_item(near, item_id)
    ulid = ulid_of_item(item_id)
    if found is None and ulid is not None:
        async with draft.state.database.read() as session:
            job_id = await find_job_of_item(session, draft.caller.user_id, ulid)
            if job_id is not None:
                keep_policy(draft, await get_light(session, job_id))
                found = find_item(all_items(job_id, *await get_request_and_answer(session, job_id)), item_id)
    if found is None:
        raise ItemNotFoundError(item_id[:100], f"input.{index}.id")
    return found
