"""Translate the answer of a chat provider, piece by piece or whole, into items of an output and their events."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from shared.chat.schemas import ChunkChoice, ToolCall
from shared.ids import new_id
from shared.responses.events import ResponseEvents
from shared.responses.items import PREFIX_OF

REASON_OF: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a chat ended → why a response is incomplete."""
_COMPLETED, _INCOMPLETE = "completed", "incomplete"


class _Text(Struct, kw_only=True):
    """An item made of text: a message or a piece of reasoning."""

    place: int
    item: dict[str, Any]
    part_type: str | None = None
    """Of the part that is open."""
    pieces: list[str] = []
    logprobs: list[Any] = []


class _Call(Struct, kw_only=True):
    """A call of a function."""

    place: int
    item: dict[str, Any]
    pieces: list[str] = []


class AnswerItems:
    """The items of one answer, as far as it has come."""

    def __init__(self, events: ResponseEvents) -> None:
        self._events = events
        self._text: _Text | None = None
        self._calls: dict[int, _Call] = {}
        self._done: dict[int, dict[str, Any]] = {}

    @property
    def output(self) -> list[dict[str, Any]]:
        """Return the finished items in their order."""
        return [self._done[place] for place in sorted(self._done)]

    def add(self, choice: ChunkChoice) -> bool:
        """Take one piece; returns whether it has content, reasoning or a tool call."""
        delta, has_output = choice.delta, False
        if reasoning := delta.reasoning_content or delta.reasoning:
            self._add_text("reasoning", "reasoning_text", reasoning)
            has_output = True
        if delta.content:
            self._add_text("message", "output_text", delta.content, _logprobs(choice.logprobs))
            has_output = True
        if delta.refusal:
            self._add_text("message", "refusal", delta.refusal)
            has_output = True
        for call in delta.tool_calls or ():
            self._add_call(call)
            has_output = True
        return has_output

    def finish(self, finish_reason: str | None) -> str | None:
        """Finish what is open; returns why the answer is incomplete, None if it is not."""
        reason = REASON_OF.get(finish_reason or "")
        if not self._done and not self._calls and self._text is None:
            self._open_text("message", "output_text")
        status = _COMPLETED if reason is None else _INCOMPLETE
        self._close_calls(status)
        self._close_text(status)
        return reason

    def texts(self) -> list[str]:
        """Return all text so far, to be counted."""
        found = ["".join(self._text.pieces)] if self._text else []
        found += [f"{call.item['name']} {''.join(call.pieces)}" for call in self._calls.values()]
        for item in self._done.values():
            found += [part.get("text") or part.get("refusal") or "" for part in item.get("content", ())]
            if item["type"] == "function_call":
                found.append(f"{item['name']} {item['arguments']}")
        return found

    def _add_text(self, kind: str, part_type: str, delta: str, logprobs: list[Any] | None = None) -> None:
        text = self._open_text(kind, part_type)
        text.pieces.append(delta)
        members: dict[str, Any] = _place(text) | {"delta": delta}
        if part_type == "output_text":
            members["logprobs"] = logprobs or []
            text.logprobs += logprobs or ()
        self._events.add(f"response.{part_type}.delta", **members)

    def _open_text(self, kind: str, part_type: str) -> _Text:
        """Return the open item of this kind with an open part of this type, both new if need be."""
        text = self._text
        if text is None or text.item["type"] != kind:
            self._close_text(_COMPLETED)
            self._close_calls(_COMPLETED)
            text = self._text = self._begin_text(kind)
        if text.part_type != part_type:
            self._close_part(text)
            text.part_type = part_type
            if kind == "message":
                self._events.add("response.content_part.added", **_place(text), part=_part(part_type, "", []))
        return text

    def _begin_text(self, kind: str) -> _Text:
        place, item_id = self._events.next_item(PREFIX_OF[kind])
        item: dict[str, Any] = {"id": item_id, "type": kind, "status": "in_progress"}
        if kind == "message":
            item["role"] = "assistant"
        else:
            item["summary"] = []
        item["content"] = []
        self._events.add("response.output_item.added", output_index=place, item=item)
        return _Text(place=place, item=item)

    def _close_part(self, text: _Text) -> None:
        if text.part_type is None:
            return
        whole, place = "".join(text.pieces), _place(text)
        part = _part(text.part_type, whole, text.logprobs)
        member = "refusal" if text.part_type == "refusal" else "text"
        done: dict[str, Any] = {member: whole}
        if text.part_type == "output_text":
            done["logprobs"] = text.logprobs
        self._events.add(f"response.{text.part_type}.done", **place, **done)
        if text.item["type"] == "message":
            self._events.add("response.content_part.done", **place, part=part)
        text.item["content"].append(part)
        text.part_type, text.pieces, text.logprobs = None, [], []

    def _close_text(self, status: str) -> None:
        if self._text is None:
            return
        text, self._text = self._text, None
        self._close_part(text)
        self._close_item(text.place, text.item, status)

    def _close_item(self, place: int, item: dict[str, Any], status: str) -> None:
        item["status"] = status
        self._done[place] = item
        self._events.add("response.output_item.done", output_index=place, item=item)

    def _add_call(self, call: ToolCall) -> None:
        name = (call.function and call.function.name) or ""
        known = self._calls.get(call.index or 0)
        if known is None:
            self._close_text(_COMPLETED)
            place, item_id = self._events.next_item(PREFIX_OF["function_call"])
            item = {
                "id": item_id, "type": "function_call", "status": "in_progress", "call_id": call.id or new_id("call_"),
                "name": name, "arguments": "",
            }  # fmt: skip
            known = self._calls[call.index or 0] = _Call(place=place, item=item)
            self._events.add("response.output_item.added", output_index=place, item=item)
        else:
            known.item["name"] += name
        if call.function is not None and call.function.arguments:
            known.pieces.append(call.function.arguments)
            self._events.add(
                "response.function_call_arguments.delta",
                item_id=known.item["id"], output_index=known.place, delta=call.function.arguments,
            )  # fmt: skip

    def _close_calls(self, status: str) -> None:
        """Finish all calls: their pieces may have come in any order."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            item = call.item
            item["arguments"] = "".join(call.pieces)
            self._events.add(
                "response.function_call_arguments.done",
                item_id=item["id"], output_index=call.place, name=item["name"], arguments=item["arguments"],
            )  # fmt: skip
            self._close_item(call.place, item, status)


def _place(text: _Text) -> dict[str, Any]:
    return {"item_id": text.item["id"], "output_index": text.place, "content_index": len(text.item["content"])}


def _part(part_type: str, text: str, logprobs: list[Any]) -> dict[str, Any]:
    if part_type == "refusal":
        return {"type": part_type, "refusal": text}
    if part_type == "reasoning_text":
        return {"type": part_type, "text": text}
    return {"type": part_type, "text": text, "annotations": [], "logprobs": logprobs}


def _logprobs(found: Any) -> list[Any]:
    """Return the log probabilities of a piece of content."""
    content = found.get("content") if isinstance(found, Mapping) else None
    return content if isinstance(content, list) else []
