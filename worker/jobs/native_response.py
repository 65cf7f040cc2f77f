"""Responses of a provider that has its own route for them: its events and items with our ids and numbers.

What the provider calls its response is not shown: ours has another id and is kept here, not there.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, json

from shared.responses.events import ResponseEvents
from shared.responses.items import HISTORY, PREFIX_OF
from worker.context import TokenCount
from worker.jobs.upstream import MALFORMED, MEMBERS, NULL, bounded, malformed
from worker.providers.base import Blame, ProviderError, storable

_OURS: Final = ("previous_response_id", "background", "metadata", HISTORY)
"""Members that are served here."""
_STATES: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TEXTS: Final = ("text", "refusal", "arguments")


class _NativeUsage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Raw = NULL
    output_tokens_details: Raw = NULL


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Error(Struct):
    message: str | None = None
    code: str | None = None


class _Incomplete(Struct):
    reason: str = "max_output_tokens"


class NativeResponse(Struct):
    """What is read of a provider's response."""

    status: str
    output: list[dict[str, Any]]
    usage: _NativeUsage | None = None
    error: _Error | None = None
    incomplete_details: _Incomplete | None = None


class _NativeRequest(Struct):
    input: list[dict[str, Any]]
    sluice_history: list[dict[str, Any]] = []


_RESPONSE: Final = json.Decoder(NativeResponse)
_DETAILS: Final = json.Decoder(_Details | None)


def to_native(request: bytes, model_name: str, *, is_stream: bool) -> bytes:
    """Return the body for the provider: everything it has to know, since it knows no earlier response."""
    asked = json.decode(request, type=_NativeRequest)
    members: dict[str, Any] = {name: value for name, value in MEMBERS.decode(request).items() if name not in _OURS}
    items = [_anonymous(item) for item in (*asked.sluice_history, *asked.input) if _is_sent(item)]
    members |= {"model": model_name, "input": items, "store": False, "stream": is_stream}
    return json.encode(members)


def _is_sent(item: dict[str, Any]) -> bool:
    return item["type"] != "reasoning" or bool(item.get("encrypted_content"))


def _anonymous(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item without the id that was given out here; reasoning has to have one."""
    has_id = item["type"] == "reasoning" and item["id"] is not None
    return {name: value for name, value in item.items() if has_id or name not in ("id", "status")}


class NativeAnswer:
    """A provider's response as far as it has come."""

    def __init__(self, events: ResponseEvents, *, estimate: Callable[[Iterable[str]], TokenCount]) -> None:
        self.has_output = False
        self.is_finished = False
        self.output: list[dict[str, Any]] = []
        self.incomplete_reason: str | None = None
        self._events = events
        self._estimate = estimate
        self._places: dict[int, tuple[int, str]] = {}
        """The provider's place of an item → ours, and our id."""
        self._texts: list[str] = []
        self._tokens: TokenCount | None = None

    def count(self, _request: bytes) -> TokenCount:
        """Return the tokens: as reported, or else counted."""
        return self._tokens or self._estimate(self._texts)

    def take(self, data: bytes) -> list[bytes]:
        """Return the events that a piece of the stream means for the caller; raises `ProviderError`."""
        try:
            event = json.decode(data, type=dict[str, Any])
            kind = event.pop("type")
            if kind in _ENDS:
                self.end(_RESPONSE.decode(MEMBERS.decode(data)["response"]))
            elif kind == "error":
                raise broken_off(_Error(message=str(event.get("message")), code=event.get("code")))
            elif kind not in _STATES:
                self._relay(kind, event)
        except (*MALFORMED, TypeError, AttributeError) as error:
            raise ProviderError(f"The provider sent a malformed event: {error!r}", reason="malformed") from error
        return self._events.take()

    def _relay(self, kind: str, event: dict[str, Any]) -> None:
        del event["sequence_number"]
        place = event.get("output_index")
        if place is not None:
            event["output_index"], item_id = self._place(place, event.get("item"))
            if "item_id" in event:
                event["item_id"] = item_id
            if "item" in event:
                event["item"]["id"] = item_id
        if kind.endswith(".delta"):
            self.has_output = True
            if isinstance(event["delta"], str):
                self._texts.append(event["delta"])
        self._events.add(kind, **event)

    def _place(self, place: int, item: dict[str, Any] | None) -> tuple[int, str]:
        """Return our place and id of an item."""
        if place not in self._places:
            kind = "" if item is None else item["type"]
            self._places[place] = self._events.next_item(PREFIX_OF.get(kind, "item_"))
        return self._places[place]

    def end(self, response: NativeResponse) -> None:
        """Take the whole response at its end; raises `ProviderError` if it failed."""
        if response.status not in ("completed", "incomplete"):
            raise broken_off(response.error or _Error())
        self.is_finished = True
        for place, item in enumerate(response.output):
            item["id"] = self._place(place, item)[1]
            self.output.append(item)
        if response.status == "incomplete":
            self.incomplete_reason = storable((response.incomplete_details or _Incomplete()).reason)
        self._tokens = _to_token_count(response.usage)
        if self._tokens is None:
            self._texts = [text for item in self.output for text in _texts_of(item)]


def read_native(
    body: bytes, events: ResponseEvents, *, estimate: Callable[[Iterable[str]], TokenCount]
) -> NativeAnswer:
    """Return a provider's whole response and add the events it would have streamed; raises `ProviderError`."""
    answer = NativeAnswer(events, estimate=estimate)
    try:
        answer.end(_RESPONSE.decode(body))
        for place, item in enumerate(answer.output):
            _add_events(events, place, item)
    except (*MALFORMED, TypeError, AttributeError) as error:
        raise malformed(error) from error
    return answer


def _add_events(events: ResponseEvents, place: int, item: dict[str, Any]) -> None:
    """Add the events of a whole item."""
    where = {"item_id": item["id"], "output_index": place}
    kind, content = item["type"], item.get("content") or []
    empty = item | {"status": "in_progress"} | {name: "" for name in ("arguments",) if name in item}
    events.add("response.output_item.added", output_index=place, item=empty | ({"content": []} if content else {}))
    for index, part in enumerate(content):
        at = where | {"content_index": index}
        member = "refusal" if part["type"] == "refusal" else "text"
        logprobs = {"logprobs": part.get("logprobs") or []} if part["type"] == "output_text" else {}
        if kind == "message":
            events.add("response.content_part.added", **at, part=part | {member: ""})
        events.add(f"response.{part['type']}.delta", **at, delta=part[member], **logprobs)
        events.add(f"response.{part['type']}.done", **at, **{member: part[member]}, **logprobs)
        if kind == "message":
            events.add("response.content_part.done", **at, part=part)
    if kind == "function_call":
        arguments = item["arguments"]
        events.add("response.function_call_arguments.delta", **where, delta=arguments)
        events.add("response.function_call_arguments.done", **where, name=item["name"], arguments=arguments)
    events.add("response.output_item.done", output_index=place, item=item)


def _texts_of(item: dict[str, Any]) -> list[str]:
    parts = [item, *(item.get("content") or ())]
    return [part[name] for part in parts for name in _TEXTS if isinstance(part.get(name), str)]


def _to_token_count(usage: _NativeUsage | None) -> TokenCount | None:
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    read, written = _DETAILS.decode(usage.input_tokens_details), _DETAILS.decode(usage.output_tokens_details)
    return TokenCount(
        prompt=bounded(usage.input_tokens),
        completion=bounded(usage.output_tokens),
        cached=bounded((read and read.cached_tokens) or 0),
        reasoning=bounded((written and written.reasoning_tokens) or 0),
        prompt_details=UNSET if read is None else usage.input_tokens_details.copy(),
        completion_details=UNSET if written is None else usage.output_tokens_details.copy(),
    )


def broken_off(error: _Error) -> ProviderError:
    """Return the failure of a provider that could not finish its response."""
    blame: Blame = "request" if error.code == "invalid_prompt" else "provider"
    reason = {"invalid_prompt": "http_400", "rate_limit_exceeded": "http_429"}.get(error.code or "", "broken_stream")
    message = error.message or "The provider could not finish the response."
    return ProviderError(message, blame=blame, reason=reason, status=400 if blame == "request" else None)
