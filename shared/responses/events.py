"""The events of a response's stream: numbered from 0 without gaps, over all attempts.

`response.created` and `response.queued` come first and what ended the response last; both follow from the job and are
not part of the log (see `shared.responses.objects`).  The log begins with `response.in_progress`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct, json

from shared.responses.items import output_item_id
from shared.responses.schemas import Response

_TEXT_DELTAS: Final = {
    "response.output_text.delta": "output_text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning_text",
}
_ARGUMENTS_DELTA: Final = "response.function_call_arguments.delta"


class ResponseEvents:
    """Makes the events of one attempt."""

    def __init__(self, job_id: str, *, number: int, place: int = 0) -> None:
        self.number = number
        """Of the next event."""
        self.place = place
        """`output_index` of the next item."""
        self._job_id = job_id
        self._made: list[bytes] = []
        self._first: list[dict[str, Any]] = []

    def begin_with(self, kind: str, **members: Any) -> None:
        """Have this event come first, as soon as there is another one."""
        self._first.append({"type": kind, **members})

    def add(self, kind: str, **members: Any) -> None:
        """Make an event."""
        if self._first:
            first, self._first = self._first, []
            for event in first:
                self.add(event.pop("type"), **event)
        self._made.append(json.encode({"type": kind, "sequence_number": self.number, **members}))
        self.number += 1

    def next_item(self, prefix: str) -> tuple[int, str]:
        """Return the place and the id of the next item."""
        place, self.place = self.place, self.place + 1
        return place, output_item_id(self._job_id, prefix, place)

    def take(self) -> list[bytes]:
        """Return the events made since the last time."""
        made, self._made = self._made, []
        return made


class _Seen(Struct):
    type: str
    sequence_number: int
    output_index: int | None = None
    item: dict[str, Any] | None = None
    delta: Any = None


def begin_events(job_id: str, in_progress: Response, sent: Iterable[bytes]) -> ResponseEvents:
    """Return the events of an attempt, which go on where those of an earlier one, whose worker was lost, broke off.

    What was sent stays: items that were not finished are declared incomplete, new ones get places of their own.
    """
    seen = [json.decode(data, type=_Seen) for data in sent]
    if not seen:
        events = ResponseEvents(job_id, number=2 if in_progress.background else 1)
        events.begin_with("response.in_progress", response=in_progress)
        return events
    places = [event.output_index for event in seen if event.output_index is not None]
    events = ResponseEvents(job_id, number=seen[-1].sequence_number + 1, place=max(places, default=-1) + 1)
    for place, item in _broken_items(seen).items():
        events.begin_with("response.output_item.done", output_index=place, item=item | {"status": "incomplete"})
    return events


def _broken_items(seen: Iterable[_Seen]) -> dict[int, dict[str, Any]]:
    """Return the items that were begun and not finished, by place, with what they had."""
    items: dict[int, dict[str, Any]] = {}
    for event in seen:
        place = event.output_index
        if place is None:
            continue
        if event.type == "response.output_item.added" and event.item is not None:
            items[place] = event.item
        elif event.type == "response.output_item.done":
            items.pop(place, None)
        elif place in items and isinstance(event.delta, str):
            _add_delta(items[place], event.type, event.delta)
    return items


def _add_delta(item: dict[str, Any], kind: str, delta: str) -> None:
    if kind == _ARGUMENTS_DELTA:
        item["arguments"] = item.get("arguments", "") + delta
    elif kind in _TEXT_DELTAS:
        part_type = _TEXT_DELTAS[kind]
        member = "refusal" if part_type == "refusal" else "text"
        content = item.setdefault("content", [])
        if not content or content[-1]["type"] != part_type:
            content.append({"type": part_type, member: ""})
            if part_type == "output_text":
                content[-1] |= {"annotations": [], "logprobs": []}
        content[-1][member] += delta
