"""POST /v1/chat/completions, and the completions that were made: list, get, rate, update, delete."""

from collections.abc import Sequence
from typing import Any, Final, Literal, cast

from msgspec import UNSET, Raw, Struct, json
from msgspec.structs import replace

from api.call import Call, Draft
from api.chat_search import find_search, search_for_chat
from api.chats import CHAT_ERRORS, chat_submission
from api.http import EventStream, Reply, Routes
from api.own_jobs import find_readable_job, read_result, remove, wait_for_result
from api.render import metadata_of
from api.respond import ERRORS, respond_or_stream
from api.submission import Submission
from shared.chat.schemas import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionDeleted,
    ChatCompletionPage,
    ChatCompletionRequest,
    ContentPart,
    ListChatCompletionsQuery,
    ListMessagesQuery,
    StoredChatCompletion,
    StoredMessage,
    StoredMessagePage,
    UpdateChatCompletionRequest,
)
from shared.collections.errors import SEARCH_ERRORS
from shared.errors import (
    CompletionNotFoundError,
    GoneError,
    InvalidCursorError,
    InvalidFieldError,
    JobFailedError,
    JobNotFinishedError,
)
from shared.ids import JOB_PREFIXES, parse_id
from shared.jobs.queries import get_request, update_job
from shared.jobs.queries import list_chat_completions as query_completions
from shared.jobs.schemas import CHAT_ATTRIBUTES, CHAT_COMPLETION, TERMINAL, WITH_RESULT, Job, WaitQuery, alias_of
from shared.jobs.tables import JobRow

routes = Routes("Chat")
PATH = "/v1/chat/completions"


async def prepare_chat(draft: Draft, body: ChatCompletionRequest) -> Submission:
    """Return what this request asks for."""
    args = find_search(body)
    submission = await chat_submission(draft, body, PATH)
    if args is None:
        return submission

    async def search(call: Call) -> Submission:
        await search_for_chat(call, body, args)
        return await chat_submission(call, json.decode(call.body, type=ChatCompletionRequest, strict=False), PATH)

    return replace(submission, search=search)


@routes.post(PATH, raises=(*ERRORS, *CHAT_ERRORS, *SEARCH_ERRORS), accepted=Job, prepare=prepare_chat)
async def create_chat_completion(
    call: Call, body: ChatCompletionRequest
) -> Reply[ChatCompletion] | EventStream[ChatCompletionChunk]:
    """Answer a conversation.

    With `stream: true` the answer is a stream of chunks that ends with `data: [DONE]`; the id of each event is a cursor
    of `/v1/jobs/{job_id}/events`, where a broken stream can be resumed.  With `Prefer: respond-async` the answer is 202
    and a job.  With a search tool, what is found in collections is given to the model, and named in `search_results`.
    """
    return await respond_or_stream(call, await prepare_chat(call, body))


@routes.get(PATH, raises=(InvalidCursorError,))
async def list_chat_completions(call: Call, query: ListChatCompletionsQuery) -> ChatCompletionPage:
    """List the caller's completions, except those made with `store: false`."""
    after = None
    if query.after is not None and (after := parse_id(query.after, *JOB_PREFIXES)) is None:
        raise InvalidCursorError(f"`{query.after}` is not the id of a completion.", param="after")
    async with call.state.database.read() as session:
        found, has_more = await query_completions(session, call.caller.user_id, query, after)
    data = [cast(StoredChatCompletion, Raw(_merge(body, row, row.request or b"{}"))) for row, body in found]
    ids = [alias_of(row.kind, row.id) for row, _ in found]
    return ChatCompletionPage(data=data, has_more=has_more, **_ends(ids))


def _ends(ids: Sequence[str]) -> dict[str, Any]:
    return {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}


@routes.get(PATH + "/{completion_id}", raises=(CompletionNotFoundError, GoneError, JobNotFinishedError))
async def get_chat_completion(call: Call, completion_id: str, query: WaitQuery) -> Reply[StoredChatCompletion]:
    """Get a completion that was made before; 409 while it is being made, the stored error if it failed."""
    row = await wait_for_result(call, await _find(call, completion_id), query.wait)
    return await _stored(call, row)


async def _find(call: Call, completion_id: str) -> JobRow:
    row = await find_readable_job(call, completion_id, CompletionNotFoundError(completion_id))
    if row.kind not in (CHAT_COMPLETION, CHAT_ATTRIBUTES):
        raise CompletionNotFoundError(completion_id)
    return row


_NULL: Final = Raw(b"null")


class _Asked(Struct):
    """What a stored completion repeats of its request."""

    tools: Raw = _NULL
    tool_choice: Raw = _NULL
    response_format: Raw = _NULL
    seed: Raw = _NULL
    temperature: Raw = _NULL
    top_p: Raw = _NULL
    presence_penalty: Raw = _NULL
    frequency_penalty: Raw = _NULL


_USUAL_TIER: Final = Raw(b'"default"')
_UNUSED: Final[dict[str, Raw]] = {"refusal": _NULL, "tool_calls": _NULL, "function_call": _NULL}
"""Members of a message that is read again, whether it has them or not."""
_DEFAULTS = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def _merge(body: bytes, row: JobRow, request: bytes) -> bytes:
    """Return the completion as first returned, with the members that storing adds."""
    asked = json.decode(request, type=_Asked)
    members: dict[str, Any] = json.decode(body, type=dict[str, Raw])
    for name in _Asked.__struct_fields__:
        value = getattr(asked, name)
        members[name] = _DEFAULTS.get(name) if bytes(value) == b"null" else value
    members |= {
        "request_id": row.request_id,
        "metadata": metadata_of(row),
        "vote": row.vote,
        "input_user": row.end_user,
        "choices": [_with_members(choice) for choice in json.decode(members["choices"], type=list[dict[str, Raw]])],
    }
    if bytes(members.get("service_tier", _NULL)) == b"null":
        members["service_tier"] = _USUAL_TIER
    return json.encode(members)


def _with_members(choice: dict[str, Raw]) -> dict[str, Any]:
    return choice | {"message": _UNUSED | json.decode(choice["message"], type=dict[str, Raw])}


async def _stored(call: Call, row: JobRow) -> Reply[StoredChatCompletion]:
    body, _ = await read_result(call, row)
    async with call.state.database.read() as session:
        request = await get_request(session, row.id)
    return Reply(body=_merge(body, row, request))


@routes.post(
    PATH + "/{completion_id}", raises=(CompletionNotFoundError, GoneError, JobNotFinishedError, JobFailedError)
)
async def update_chat_completion(
    call: Call, completion_id: str, body: UpdateChatCompletionRequest
) -> Reply[StoredChatCompletion] | None:
    """Rate a completion (`vote`: up, down, or null to take it back), replace its metadata, or both.

    204 after a vote alone, else the completion.
    """
    return await _update(call, completion_id, body)


async def _update(
    call: Call, completion_id: str, body: UpdateChatCompletionRequest
) -> Reply[StoredChatCompletion] | None:
    row = await _find(call, completion_id)
    values: dict[str, Any] = {}
    if body.vote is not UNSET:
        values["vote"] = _vote(body.vote)
    if body.metadata is not UNSET:
        values["metadata_"] = json.encode(body.metadata).decode() if body.metadata else None
    if not values:
        raise InvalidFieldError(["body"], "`vote` or `metadata` is needed")
    if row.status not in TERMINAL:
        raise JobNotFinishedError(f"The completion is {row.status}.", headers={"retry-after": "1"})
    if row.status not in WITH_RESULT:
        raise JobFailedError(f"The completion is {row.status}.")
    async with call.state.database.transaction() as session:
        await update_job(session, row.id, **values)
    if body.metadata is UNSET:
        return None
    return await _stored(call, await _find(call, completion_id))


def _vote(vote: Any) -> Literal["up", "down"] | None:
    lower = vote.lower() if isinstance(vote, str) else vote
    if lower in ("up", "down", None):
        return cast(Literal["up", "down"] | None, lower)
    raise InvalidFieldError(["body", "vote"], "`vote` must be `up` or `down`")


@routes.post(
    PATH + "/{completion_id}/rate", raises=(CompletionNotFoundError, GoneError, JobNotFinishedError, JobFailedError)
)
async def rate_chat_completion(
    call: Call, completion_id: str, body: UpdateChatCompletionRequest
) -> Reply[StoredChatCompletion] | None:
    """Rate a completion; the same as updating it."""
    return await _update(call, completion_id, body)


@routes.delete(PATH + "/{completion_id}", raises=(CompletionNotFoundError, GoneError, JobNotFinishedError))
async def delete_chat_completion(call: Call, completion_id: str) -> ChatCompletionDeleted:
    """Remove request and answer; a tombstone stays."""
    row = await _find(call, completion_id)
    await remove(call, row)
    return ChatCompletionDeleted(id=alias_of(row.kind, row.id), deleted=True)


class _Turn(Struct):
    role: str
    content: Raw = _NULL
    name: Raw = _NULL


class _Request(Struct):
    messages: list[_Turn] = []


@routes.get(PATH + "/{completion_id}/messages", raises=(CompletionNotFoundError, GoneError, InvalidCursorError))
async def list_chat_completion_messages(call: Call, completion_id: str, query: ListMessagesQuery) -> StoredMessagePage:
    """List the messages of the request."""
    row = await _find(call, completion_id)
    async with call.state.database.read() as session:
        request = json.decode(await get_request(session, row.id), type=_Request)
    prefix = alias_of(row.kind, row.id)
    messages = [_message(f"{prefix}-{index}", message) for index, message in enumerate(request.messages)]
    if query.order == "desc":
        messages.reverse()
    start = 0
    if query.after is not None:
        ids = [message.id for message in messages]
        if query.after not in ids:
            raise InvalidCursorError(f"`{query.after}` is not a message of this completion.", param="after")
        start = ids.index(query.after) + 1
    shown = messages[start : start + query.limit]
    return StoredMessagePage(
        data=shown, has_more=start + query.limit < len(messages), **_ends([message.id for message in shown])
    )


def _message(message_id: str, turn: _Turn) -> StoredMessage:
    content = json.decode(turn.content, type=str | list[ContentPart | str] | None)
    parts = None if content is None or isinstance(content, str) else turn.content
    if isinstance(content, list):
        content = "\n".join(part if isinstance(part, str) else part.text or "" for part in content)
    return StoredMessage(id=message_id, role=turn.role, content=content, name=turn.name, content_parts=parts)
