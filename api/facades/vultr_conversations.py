"""/v2/inference/{subscription_id}/conversations: chats that are kept with a subscription.

A question is noted together with the id of its job before that job is made, so that only one runs at a time.  Question
and answer are kept when somebody looks after the end of the job, be it only for the next question.
"""

from typing import Any, Final

from msgspec import Struct, json

from api.call import Call
from api.chats import CHAT_ERRORS, chat_submission
from api.http import EventStream, Reply, Routes
from api.once import keep_answer
from api.respond import ERRORS, respond_or_stream
from api.shown import keep_policy
from shared.chat.schemas import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from shared.clock import now_ms, to_iso
from shared.conversations.queries import (
    ConversationNotFoundError,
    begin_answer,
    delete_conversations,
    end_answer,
    get_conversation,
    list_messages,
)
from shared.conversations.queries import list_conversations as query_conversations
from shared.conversations.schemas import (
    Conversation,
    ConversationMessage,
    ConversationPage,
    ConversationReply,
    ConversationWithMessages,
    CreateConversationRequest,
    CreateMessageRequest,
    ListConversationsQuery,
    UpdateConversationRequest,
)
from shared.conversations.tables import ConversationMessageRow, ConversationRow
from shared.dialects import VULTR
from shared.errors import ConflictError, InvalidCursorError
from shared.ids import new_ulid
from shared.jobs.queries import LIGHT, get_result
from shared.jobs.schemas import CHAT_COMPLETION, TERMINAL, WITH_RESULT, Job, alias_of, public_id
from shared.jobs.tables import JobRow
from shared.subscriptions.queries import SubscriptionNotFoundError, get_subscription
from shared.tokens import count_tokens

routes = Routes("Vultr: conversations", VULTR)
_PATH: Final = "/v2/inference/{subscription_id}/conversations"
_ONE: Final = _PATH + "/{conversation_id}"
_CHAT: Final = "/v1/chat/completions"
_PREFIX: Final = "conv_"
_TITLE: Final = 60
_TOKENS: Final = 512
_PER_MESSAGE: Final = 4
_APPEARS_MS: Final = 60_000
"""A job that has no row by then was never made."""
_NOT_FOUND: Final = (SubscriptionNotFoundError, ConversationNotFoundError)


class ConversationBusyError(ConflictError):
    """The last question is still being answered."""

    code = "conversation_busy"

    def __init__(self) -> None:
        super().__init__("The last question is still being answered.", headers={"x-should-retry": "false"})


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message


class _Completion(Struct):
    choices: list[_Choice]


@routes.get(_PATH, raises=(SubscriptionNotFoundError, InvalidCursorError))
async def list_conversations(call: Call, subscription_id: str, query: ListConversationsQuery) -> ConversationPage:
    """List the conversations of a subscription, newest first."""
    if query.after is not None and not query.after.startswith(_PREFIX):
        raise InvalidCursorError("`after` must be the id of a conversation.", param="after")
    after = None if query.after is None else query.after.removeprefix(_PREFIX)
    async with call.state.database.read() as session:
        key_id = await _key_id(call, session, subscription_id)
        rows, has_more = await query_conversations(session, key_id, after, query.limit)
    return ConversationPage(conversations=[_to_conversation(row) for row in rows], has_more=has_more)


async def _key_id(call: Call, session: Any, subscription_id: str) -> int:
    """Return the key of a subscription that the caller may use: one of his own, or the one he calls with."""
    owner = None if call.caller.is_admin else call.caller.user_id
    row = await get_subscription(session, subscription_id, owner)
    if call.caller.is_subscription and call.caller.key_id != row.id:
        raise SubscriptionNotFoundError(subscription_id)
    return row.id or 0


@routes.post(_PATH, status=201, raises=(SubscriptionNotFoundError,))
async def create_conversation(call: Call, subscription_id: str, body: CreateConversationRequest) -> ConversationReply:
    """Begin a conversation."""
    now = now_ms()
    async with call.state.database.transaction() as session:
        row = ConversationRow(
            id=new_ulid(), key_id=await _key_id(call, session, subscription_id), title=body.title, model=body.model,
            max_tokens=body.max_tokens, created_ms=now, updated_ms=now,
        )  # fmt: skip
        session.add(row)
        return await keep_answer(session, call, ConversationReply(conversation=_with_messages(row, [])))


@routes.get(_ONE, raises=_NOT_FOUND)
async def get_conversation_with_messages(call: Call, subscription_id: str, conversation_id: str) -> ConversationReply:
    """Get a conversation with its messages."""
    return await _reply(call, await _settled(call, subscription_id, conversation_id))


async def _reply(call: Call, row: ConversationRow) -> ConversationReply:
    async with call.state.database.read() as session:
        messages = await list_messages(session, row.id)
    return ConversationReply(conversation=_with_messages(row, messages))


@routes.patch(_ONE, raises=_NOT_FOUND)
async def update_conversation(
    call: Call, subscription_id: str, conversation_id: str, body: UpdateConversationRequest
) -> ConversationReply:
    """Give a conversation another title."""
    async with call.state.database.transaction() as session:
        row = await get_conversation(session, await _key_id(call, session, subscription_id), conversation_id)
        row.title, row.updated_ms = body.title, now_ms()
        session.add(row)
    return await _reply(call, await _settled(call, subscription_id, conversation_id))


@routes.delete(_ONE, status=204, raises=_NOT_FOUND)
async def delete_conversation(call: Call, subscription_id: str, conversation_id: str) -> None:
    """Delete a conversation with its messages; its jobs stay."""
    async with call.state.database.transaction() as session:
        row = await get_conversation(session, await _key_id(call, session, subscription_id), conversation_id)
        await delete_conversations(session, [row.key_id], row.id)


@routes.post(
    _ONE + "/messages", is_inference=True, accepted=Job,
    raises=(*_NOT_FOUND, *ERRORS, *CHAT_ERRORS, ConversationBusyError),
)  # fmt: skip
async def create_conversation_message(
    call: Call, subscription_id: str, conversation_id: str, body: CreateMessageRequest
) -> Reply[ChatCompletion] | EventStream[ChatCompletionChunk]:
    """Ask a question in a conversation: a chat completion of all that was said before."""
    row = await _settled(call, subscription_id, conversation_id)
    if row.job_id is not None:
        raise ConversationBusyError
    call.caller = await call.state.keys.find_owner(*await _owner(call, subscription_id)) or call.caller
    request = await _to_request(call, row, body)
    call.body = json.encode(request)
    submission = await chat_submission(call, json.decode(call.body, type=ChatCompletionRequest), _CHAT)
    call.job_id = new_ulid()
    values = {
        "asked": body.content, "asked_ms": now_ms(), "model": submission.model, "max_tokens": request["max_tokens"],
        "title": row.title or body.content[:_TITLE],
    }  # fmt: skip
    async with call.state.database.transaction() as session:
        if not await begin_answer(session, row, call.job_id, values):
            raise ConversationBusyError
    try:
        return await respond_or_stream(call, submission)
    finally:
        if call.headers.get("x-job-id") != public_id(call.job_id):  # refused, or a repetition
            await _forget(call, row.id, call.job_id)


async def _owner(call: Call, subscription_id: str) -> tuple[int, int | None]:
    async with call.state.database.read() as session:
        row = await get_subscription(session, subscription_id, None)
    return row.user_id, row.id


async def _to_request(call: Call, row: ConversationRow, body: CreateMessageRequest) -> dict[str, Any]:
    """Return the chat of all that was said, without the oldest turns if it is longer than the model takes."""
    model, limit = body.model or row.model, body.max_tokens or row.max_tokens or _TOKENS
    router = None if model is None else await call.state.directory.find_router(model)
    async with call.state.database.read() as session:
        said = [message for message, _ in await list_messages(session, row.id)]
        last = await session.get(JobRow, said[-1].job_id, options=LIGHT) if said else None
    if last is not None:
        keep_policy(call, last)  # it has kept those of the answers before
    turns = [{"role": one.role, "content": one.content} for one in said if one.content]
    turns.append({"role": "user", "content": body.content})
    room = None if router is None or router.max_context_length is None else router.max_context_length - limit
    while room is not None and len(turns) > 1 and _count(turns) > room:
        del turns[:2]
    return {"model": model, "messages": turns, "max_tokens": limit, "stream": bool(body.stream), "store": True}


def _count(turns: list[dict[str, str]]) -> int:
    return sum(count_tokens(turn["content"]) + _PER_MESSAGE for turn in turns)


async def _settled(call: Call, subscription_id: str, conversation_id: str) -> ConversationRow:
    """Return a conversation, with the answer of its job kept if that is over."""
    async with call.state.database.read() as session:
        row = await get_conversation(session, await _key_id(call, session, subscription_id), conversation_id)
        if row.job_id is None:
            return row
        job = await session.get(JobRow, row.job_id, options=LIGHT)
        if job is None and now_ms() - (row.asked_ms or 0) < _APPEARS_MS:
            return row
        if job is not None and job.status not in TERMINAL:
            return row
        result = None if job is None or job.status not in WITH_RESULT else await get_result(session, job.id)
    text = "" if result is None else json.decode(result.body, type=_Completion).choices[0].message.content or ""
    async with call.state.database.transaction() as session:
        await end_answer(session, row, None if job is None else (text, job.status), now_ms())
    async with call.state.database.read() as session:
        return await get_conversation(session, row.key_id, conversation_id)


async def _forget(call: Call, conversation_id: str, job_id: str) -> None:
    """Forget a question of which no job was made."""
    async with call.state.database.transaction() as session:
        row = await session.get(ConversationRow, conversation_id)
        if row is not None and row.job_id == job_id:
            await end_answer(session, row, None, now_ms())


def _to_conversation(row: ConversationRow) -> Conversation:
    return Conversation(**_members(row))


def _with_messages(
    row: ConversationRow, messages: list[tuple[ConversationMessageRow, str | None]]
) -> ConversationWithMessages:
    shown = [
        ConversationMessage(
            id=f"msg_{message.id}", role=message.role, content=message.content,  # type: ignore[arg-type]  # columns
            created=to_iso(message.created_ms), status=message.status, vote=vote,  # type: ignore[arg-type]
            completion_id=None if message.job_id is None else alias_of(CHAT_COMPLETION, message.job_id),
        )
        for message, vote in messages
    ]  # fmt: skip
    return ConversationWithMessages(**_members(row), messages=shown)


def _members(row: ConversationRow) -> dict[str, Any]:
    return {
        "id": _PREFIX + row.id, "title": row.title, "model": row.model, "max_tokens": row.max_tokens,
        "created": to_iso(row.created_ms), "updated": to_iso(row.updated_ms),
    }  # fmt: skip
