"""What only Inflection's API has: attributes, configs, the older chat route, the older inference and its streams."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from msgspec import Raw, json
from msgspec.structs import replace

from api.access import has_access
from api.call import Call, Draft
from api.chats import CHAT_ERRORS, chat_submission
from api.http import EventStream, Reply, Routes
from api.inference_form import inference_form
from api.limits import Estimate
from api.respond import ERRORS, preference_of, respond, respond_or_stream
from api.submission import Submission
from api.web_search import WebSearchFailedError, WebSearchUnavailableError, open_web_search
from shared.chat.messages import decode_messages, to_messages
from shared.chat.retrieved import Retrieved, with_retrieved
from shared.chat.schemas import ChatCompletion, ChatCompletionRequest
from shared.dialects import INFLECTION, INFLECTION_LEGACY, RULES
from shared.directory import Provider, Router
from shared.errors import InvalidFieldError, UnprocessableEntityError
from shared.facades.inflection.attributes import PROMPT, most_tokens, select_attributes, to_conversation
from shared.facades.inflection.inference import last_question, to_chat
from shared.facades.inflection.schemas import (
    AttributesRequest,
    Config,
    ConfigParameters,
    InferenceEvent,
    InferenceQuery,
    InferenceReply,
    InferenceRequest,
    LegacyChunk,
    LegacyCompletion,
    Parameter,
)
from shared.jobs.schemas import CHAT_ATTRIBUTES, INFERENCE, Job
from shared.models.schemas import CHAT_TYPES, DEFAULT_URL

routes = Routes("Inflection", INFLECTION)
legacy = Routes("Inflection", INFLECTION_LEGACY)
ATTRIBUTES: Final = "/v1/chat/attributes"
LEGACY_CHAT: Final = "/external/api/inference/openai/v1/chat/completions"
LEGACY: Final = "/external/api/inference"
LEGACY_STREAM: Final = "/external/api/inference/streaming"
SEARCH: Final = "x-sluice-web-search"
_ERRORS: Final = (*ERRORS, *CHAT_ERRORS, WebSearchUnavailableError, WebSearchFailedError)
_MOST_NAMES: Final = 64
_LONGEST_NAME: Final = 64
"""Of members that are named in a header."""
_CONFIG_LENGTH: Final = 131_072
"""Of models whose context length is not known."""


async def prepare_attributes(draft: Draft, body: AttributesRequest) -> Submission:
    """Return what this request asks for."""
    if body.stream:
        raise InvalidFieldError(["body", "stream"], "Scores are not streamed")
    settings, directory = draft.state.settings, draft.state.directory
    named = None if body.model is None else await directory.find_router(body.model)
    if named is None or named.type not in CHAT_TYPES:
        body.model = settings.attributes_model or settings.default_chat_model or body.model
    submission = await chat_submission(draft, body, ATTRIBUTES, CHAT_ATTRIBUTES)
    attributes = select_attributes(body)
    messages, _ = to_messages(json.decode(draft.body, type=dict[str, Any])["messages"])
    to_conversation(messages, settings.attributes_context_tokens)
    asked = len(PROMPT) + sum(len(one.name) + len(one.definition) + len(one.example or "") for one in attributes)
    estimate = Estimate(
        prompt_tokens=submission.estimate.prompt_tokens + asked // 4,
        output_tokens=body.max_completion_tokens or body.max_tokens or most_tokens(len(attributes)),
        repeated_bytes=len(draft.body) + 2 * asked,
    )
    return replace(submission, estimate=estimate)


@routes.post(ATTRIBUTES, raises=(*ERRORS, *CHAT_ERRORS), accepted=Job, prepare=prepare_attributes)
async def create_chat_attributes(call: Call, body: AttributesRequest) -> Reply[ChatCompletion]:
    """Score the last message of the assistant for attributes, by a model that judges it.

    The content of the answer is a JSON text: for each attribute its `score`, from 0 to 1, and whether it is `positive`.
    """
    return await respond(call, await prepare_attributes(call, body))


async def prepare_legacy_chat(draft: Draft, body: ChatCompletionRequest) -> Submission:
    """Return what this request asks for; of its members, only some are used."""
    taken = RULES[INFLECTION_LEGACY].takes_only or frozenset()
    given = {name for name, value in json.decode(draft.body, type=dict[str, Any]).items() if value is not None}
    if dropped := sorted(given - taken):
        draft.headers["x-sluice-dropped-params"] = ", ".join(
            quote(name[:_LONGEST_NAME]) for name in dropped[:_MOST_NAMES]
        )
    submission = await chat_submission(draft, body, LEGACY_CHAT)
    return replace(submission, priority=None, timeout_s=None, client_request_id=None, is_flex=False)


@legacy.post(LEGACY_CHAT, raises=(*ERRORS, *CHAT_ERRORS), accepted=Job, prepare=prepare_legacy_chat)
async def create_legacy_chat_completion(
    call: Call, body: ChatCompletionRequest
) -> Reply[LegacyCompletion] | EventStream[LegacyChunk]:
    """Answer a conversation by its core members.

    Only model, messages, temperature, max_tokens, top_p, tools, response_format and stream are used; what else is sent
    is checked, dropped, and named in `x-sluice-dropped-params`.
    """
    return await respond_or_stream(call, await prepare_legacy_chat(call, body))


async def prepare_inference(draft: Draft, body: InferenceRequest) -> Submission:
    """Return what this request asks for."""
    return await _prepare(draft, body, LEGACY)


async def prepare_inference_stream(draft: Draft, body: InferenceRequest) -> Submission:
    """Return what this request asks for."""
    return await _prepare(draft, body, LEGACY_STREAM)


@routes.post(LEGACY, raises=_ERRORS, accepted=Job, prepare=prepare_inference)
async def create_inference(call: Call, body: InferenceRequest, query: InferenceQuery) -> Reply[InferenceReply]:
    """Continue a context of turns."""
    return await respond(call, await _prepare(call, body, LEGACY, query.origin_endpoint))


@routes.post(
    LEGACY_STREAM, raises=_ERRORS, accepted=Job,
    prepare=prepare_inference_stream,
)  # fmt: skip
async def create_inference_stream(
    call: Call, body: InferenceRequest, query: InferenceQuery
) -> EventStream[InferenceEvent]:
    """Continue a context of turns, piece by piece; the stream ends without `[DONE]`."""
    submission = await _prepare(call, body, LEGACY_STREAM, query.origin_endpoint)
    return await respond_or_stream(call, submission, inference_form)  # type: ignore[return-value]  # or a 202


async def _prepare(draft: Draft, body: InferenceRequest, path: str, origin: str | None = None) -> Submission:
    body.check()
    metadata = None if origin is None else {"origin_endpoint": origin}
    submission = await _submission(draft, body, path, metadata)
    question = last_question(body)
    if not body.wants_search or question is None or draft.is_stored:
        return submission
    source = open_web_search(draft.state.settings, draft.state.http)
    draft.headers[SEARCH] = "unavailable"
    must = body.web_search is True and isinstance(draft, Call) and preference_of(draft).is_strict
    if source is None:
        if must:
            raise WebSearchUnavailableError
        return submission

    async def search(call: Call) -> Submission:
        try:
            found = await source.search(question)
        except WebSearchFailedError:
            if must:
                raise
            return submission
        call.headers[SEARCH] = "used"
        if found is None:
            return submission
        call.body = with_retrieved(json.decode(call.body, type=dict[str, Raw]), Retrieved(web=found))
        return await _submission(call, body, path, metadata, found)

    return replace(submission, search=search)


async def _submission(
    draft: Draft, body: InferenceRequest, path: str, metadata: dict[str, str] | None, found: str | None = None
) -> Submission:
    """Return what a request asks for, in the words of its API; `found` is what the web has."""
    chat = to_chat(body, found) | {"stream": path == LEGACY_STREAM, "metadata": metadata}
    try:
        request = decode_messages(chat, ChatCompletionRequest)
        submission = await chat_submission(draft, request, path, INFERENCE)
    except UnprocessableEntityError as error:
        raise error.at(_RENAMED) from error
    del draft.headers["x-sluice-messages-form"]
    return submission


_RENAMED: Final = {"messages": "context", "model": "config", "stop": "stop_tokens"}
"""Members of a chat, as this API calls them."""


@routes.get("/v1/discovery/configs")
async def list_configs(call: Call) -> list[Config]:
    """List the chat models the caller may use, with what a client may set and what is usual."""
    await call.state.directory.refresh()
    routers = [
        router
        for router in call.state.directory.routers()
        if router.providers and router.type in CHAT_TYPES and has_access(call.caller, router.id)
    ]
    has_search = call.state.settings.searxng_url is not None
    return [_to_config(router, has_search=has_search) for router in sorted(routers, key=lambda one: one.name)]


def _to_config(router: Router, *, has_search: bool) -> Config:
    external = {_is_external(provider) for provider in router.providers}
    return Config(
        name=router.name,
        alias=router.display_name or router.name,
        default_parameters=_to_parameters(router.default_parameters, router.max_context_length, has_search=has_search),
        description=router.description,
        tags=[router.type, *router.aliases],
        is_external=external.pop() if len(external) == 1 else None,
        is_playground=True,
    )


def _is_external(provider: Provider) -> bool:
    return provider.type != "simulator" and provider.url == DEFAULT_URL.get(provider.type)


def _to_parameters(usual: Mapping[str, Any], length: int | None, *, has_search: bool) -> ConfigParameters:
    return ConfigParameters(
        temperature=Parameter(range=[0, 2], value=usual.get("temperature", 1.0)),
        maximumLength=Parameter(range=[1, length or _CONFIG_LENGTH], value=usual.get("max_tokens")),
        topP=Parameter(range=[0, 1], value=usual.get("top_p", 1.0)),
        stopTokens=Parameter(range=[], value=usual.get("stop", [])),
        webSearch=Parameter(range=[], value=has_search),
    )
