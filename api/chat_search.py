"""The search tool of chats: search before the job is made, and put what was found into the last message."""

from typing import Any, Final

import msgspec
from msgspec import Raw, json

from api.call import Call
from api.searching import search
from shared.chat.retrieved import Retrieved, with_retrieved
from shared.chat.schemas import ChatCompletionRequest
from shared.collections.errors import FeatureNotEnabledError
from shared.errors import InvalidFieldError, to_unprocessable
from shared.search.prompts import text_of, with_documents
from shared.search.schemas import SEARCH_TOOL, SearchArgs

_OFF: Final = "Search build-in tool is not enabled, please contact an administrator."
_MEMBERS: Final = json.Decoder(dict[str, Raw])
_OF_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls")


def find_search(body: ChatCompletionRequest) -> SearchArgs | None:
    """Return how to search for this chat; None if it does not ask for it.  Raises `InvalidFieldError`."""
    places = [place for place, tool in enumerate(body.tools or ()) if tool.get("type") == SEARCH_TOOL]
    if len(places) > 1:
        raise InvalidFieldError(["body", "tools", places[1]], "There may be one search tool")
    if body.search and body.search_args is None:
        raise InvalidFieldError(["body", "search_args"], "search_args is required when search is True")
    if not places:
        return body.search_args if body.search else None
    place: list[str | int] = ["body", "tools", places[0]]
    try:
        return msgspec.convert((body.tools or [])[places[0]], SearchArgs, strict=False)
    except msgspec.ValidationError as error:
        raise to_unprocessable(error, place) from error


async def search_for_chat(call: Call, body: ChatCompletionRequest, args: SearchArgs) -> None:
    """Change the request of the job: what was found is in the last message, and the search tool is gone.

    Raises the errors of a search, and `FeatureNotEnabledError` without a model for it.
    """
    collection_ids = args.check("body", "search_args")
    if call.state.settings.vector_store_model is None:
        raise FeatureNotEnabledError(_OFF)
    members: dict[str, Any] = _MEMBERS.decode(call.body)
    _drop_tool(members, body)
    messages: list[Any] = json.decode(members["messages"], type=list[Raw])
    last = json.decode(messages[-1])
    question = text_of(last.get("content"))
    if not question.strip():
        call.body = json.encode(members)
        return
    model = call.model
    found = await search(call, args, collection_ids, question)
    call.model = model
    call.headers.pop("x-job-id", None)  # of the query's vector
    if found.results:
        messages[-1] = last | {"content": with_documents(last["content"], question, found.results)}
        members["messages"] = messages
    call.body = with_retrieved(members, Retrieved(search_results=list(found.results), usage=found.usage))


def _drop_tool(members: dict[str, Any], body: ChatCompletionRequest) -> None:
    members.pop("search", None)
    members.pop("search_args", None)
    others = [
        raw
        for raw, tool in zip(
            json.decode(members.get("tools", b"[]"), type=list[Raw] | None) or (), body.tools or (), strict=True
        )
        if tool.get("type") != SEARCH_TOOL
    ]
    if others:
        members["tools"] = others
        return
    for name in _OF_TOOLS:
        members.pop(name, None)
