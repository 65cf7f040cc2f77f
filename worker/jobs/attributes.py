"""Job kind `chat.attributes`: ask a model to score a message, in as many calls as there are groups of attributes."""

from collections.abc import Sequence
from json import dumps
from typing import Any, Final

from msgspec import json
from msgspec.structs import asdict

from shared.chat.messages import to_messages
from shared.chat.schemas import Choice
from shared.facades.inflection.attributes import (
    AGAIN,
    GROUP,
    Score,
    from_judge,
    select_attributes,
    to_conversation,
    to_judge,
)
from shared.facades.inflection.schemas import Attribute, AttributesRequest
from shared.tokens import count_tokens
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.chat_body import to_chat_upstream
from worker.jobs.dialects import shape_completion
from worker.jobs.upstream import (
    EMPTY_LIST,
    MALFORMED,
    NULL,
    call_provider,
    count_chat_prompt,
    identity_of,
    malformed,
    members_of,
    reported_usage,
    request_id_of,
    sum_tokens,
)
from worker.providers.base import JUDGE_INVALID, ProviderError

_REQUEST: Final = json.Decoder(AttributesRequest, strict=False)
_CHOICES: Final = json.Decoder(list[Choice])
_SIMPLER: Final[dict[str, Any]] = {"json_schema": {"type": "json_object"}, "json_object": None}
"""Form of the answer that is asked for if a provider refuses another one; at last the prompt has to do."""


async def run_attributes(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    body = _REQUEST.decode(ctx.request)
    messages, _ = to_messages(json.decode(ctx.request)["messages"])
    conversation = to_conversation(messages, ctx.runtime.settings.attributes_context_tokens)
    attributes = select_attributes(body)
    judge = _Judge(ctx)
    ctx.count_so_far = judge.count
    scores: dict[str, Score] = {}
    for start in range(0, len(attributes), GROUP):
        group = attributes[start : start + GROUP]
        scores |= await judge.score(to_judge(body, conversation, group), group)
    return Produced(
        tokens=judge.count(),
        render=lambda usage: _render(ctx, scores, usage),
        provider_request_id=judge.request_id,
    )


def _render(ctx: JobContext, scores: dict[str, Score], usage: Usage) -> bytes:
    message = {
        "role": "assistant",
        "content": dumps({name: asdict(one) for name, one in scores.items()}, ensure_ascii=False),
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {
        **identity_of(ctx), "object": "chat.completion", "choices": [choice], "usage": usage, "service_tier": NULL,
        "system_fingerprint": NULL, "search_results": EMPTY_LIST,
    }  # fmt: skip
    return json.encode(shape_completion(ctx, whole))


class _Judge:
    """The calls of one attempt and what they used."""

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx
        self._counts: list[TokenCount] = []
        self._form: Any = {"type": "json_schema"}
        self.request_id: str | None = None

    def count(self) -> TokenCount:
        """Return the tokens of all calls."""
        return sum_tokens(self._counts)

    async def score(self, chat: dict[str, Any], group: Sequence[Attribute]) -> dict[str, Score]:
        """Return the scores of a group; a faulty verdict may be mended once.  Raises `ProviderError`."""
        for _ in range(2):
            text = await self._ask(chat)
            if (scores := from_judge(text, group)) is not None:
                return scores
            repeated = [{"role": "assistant", "content": text}, {"role": "user", "content": AGAIN}]
            chat = chat | {"messages": [*chat["messages"], *repeated]}
        raise ProviderError("The judge's answer cannot be read.", blame="sluice", reason=JUDGE_INVALID)

    async def _ask(self, chat: dict[str, Any]) -> str:
        """Return the text of the judge's answer, asked for in the strictest form that the provider takes."""
        while True:
            try:
                return await self._call(chat | self._wanted(chat))
            except ProviderError as error:
                is_about_form = "response_format" in f"{error.param} {error.message}" and error.blame == "request"
                if not is_about_form or self._form is None:
                    raise
                self._form = _SIMPLER[self._form["type"]]

    def _wanted(self, chat: dict[str, Any]) -> dict[str, Any]:
        if self._form is not None and self._form["type"] == "json_schema":
            return {"response_format": chat["response_format"]}
        return {"response_format": self._form}

    async def _call(self, chat: dict[str, Any]) -> str:
        given = {name: value for name, value in chat.items() if value is not None}
        body = to_chat_upstream(json.encode(given), self._ctx.provider, is_stream=False)
        reply = await call_provider(self._ctx, "chat", body)
        self.request_id = request_id_of(reply)
        try:
            members = members_of(reply.body)
            text = _CHOICES.decode(members["choices"])[0].message.content or ""
            reported = reported_usage(members)
        except (*MALFORMED, IndexError) as error:
            raise malformed(error) from error
        counted = TokenCount(prompt=count_chat_prompt(body), completion=count_tokens(text), is_estimated=True)
        self._counts.append(reported or counted)
        return text
