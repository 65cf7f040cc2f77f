"""POST /v1/chat/completions/RAG: a chat that is given passages of a vector store."""

from typing import Any, Final

from msgspec import json, to_builtins
from msgspec.structs import replace

from api.call import Call, Draft
from api.chats import CHAT_ERRORS, chat_submission
from api.http import EventStream, Reply, Routes
from api.respond import ERRORS, respond_or_stream
from api.stores import owner_of, search_store
from api.submission import Submission
from shared.chat.retrieved import Retrieved, with_retrieved
from shared.chat.schemas import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from shared.collections.errors import SEARCH_ERRORS
from shared.dialects import VULTR
from shared.errors import InvalidFieldError
from shared.jobs.schemas import Job
from shared.search.prompts import fitting, text_of, with_passages
from shared.vector_stores.queries import find_store
from shared.vector_stores.schemas import RagRequest

routes = Routes("Chat", dialect=VULTR)
PATH: Final = "/v1/chat/completions/RAG"
LOWER_PATH: Final = "/v1/chat/completions/rag"
_ERRORS: Final = (*ERRORS, *CHAT_ERRORS, *SEARCH_ERRORS)
_OWN: Final = ("collection", "max_results", "score_threshold")


async def prepare_rag(draft: Draft, body: RagRequest) -> Submission:
    """Return what this request asks for."""
    submission = await chat_submission(draft, body, PATH)
    members: dict[str, Any] = json.decode(draft.body)
    question = _question(members["messages"])
    async with draft.state.database.read() as session:
        store = await find_store(session, owner_of(draft), body.collection)

    async def search(call: Call) -> Submission:
        hits, usage = await search_store(call, store, question, body.max_results, body.score_threshold)
        call.model = submission.model
        call.headers.pop("x-job-id", None)  # of the query's vector
        passages = fitting([hit.content for hit in hits], call.state.settings.rag_context_tokens)
        if passages:
            members["messages"] = with_passages(members["messages"], passages)
        for name in _OWN:
            members.pop(name, None)
        shown = {"results": to_builtins(hits[: len(passages)]), "usage": to_builtins(usage)}
        call.body = with_retrieved(members, Retrieved(retrieval=shown))
        return await chat_submission(call, json.decode(call.body, type=ChatCompletionRequest, strict=False), PATH)

    return replace(submission, search=search)


@routes.post(PATH, raises=_ERRORS, accepted=Job, prepare=prepare_rag)
async def create_rag_chat_completion(
    call: Call, body: RagRequest
) -> Reply[ChatCompletion] | EventStream[ChatCompletionChunk]:
    """Answer a conversation with the help of passages of a vector store, which `retrieval` names.

    The last message of the user is searched for; the passages are added to the system message, as data.
    """
    return await respond_or_stream(call, await prepare_rag(call, body))


@routes.post(LOWER_PATH, raises=_ERRORS, accepted=Job, prepare=prepare_rag)
async def create_rag_chat_completion_in_lower_case(
    call: Call, body: RagRequest
) -> Reply[ChatCompletion] | EventStream[ChatCompletionChunk]:
    """Answer a conversation with the help of a vector store; another spelling of the path."""
    return await respond_or_stream(call, await prepare_rag(call, body))


def _question(messages: list[dict[str, Any]]) -> str:
    """Return the text of the last message of the user; raises `InvalidFieldError` if there is none."""
    asked = next((one for one in reversed(messages) if one.get("role") == "user"), None)
    text = "" if asked is None else text_of(asked.get("content")).strip()
    if not text:
        raise InvalidFieldError(["body", "messages"], "A message of the user with text is needed")
    return text
