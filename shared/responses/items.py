"""The items of a response: its input with ids, as it is stored, and what it continues.

The ids of items follow from that of their job, so that a reference leads back to the job without a table: the ULID of
the job plus the place of the item, above its last five characters, by which the items of a batch differ.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Raw, Struct, json

from shared.ids import parse_id, shifted_ulid

HISTORY: Final = "sluice_history"
"""Member of a stored request: the items it continues, oldest first."""
_INPUT_FROM: Final = 1
_OUTPUT_FROM: Final = 1 << 21
SUFFIX: Final = 5
"""The last characters of the ids of a job and its items are the same."""
_UNIT: Final = 1 << 5 * SUFFIX
SPAN: Final = _UNIT << 22
"""All items of a job have ids less than this far from its own."""
PREFIX_OF: Final = {
    "message": "msg_", "function_call": "fc_", "function_call_output": "fco_", "reasoning": "rs_",
}  # fmt: skip
_WITH_STATUS: Final = frozenset({"message", "function_call", "function_call_output"})
_MEMBERS: Final = json.Decoder(dict[str, Raw])
_INPUT: Final = json.Decoder(str | list[dict[str, Any]])


class _Asked(Struct):
    input: list[dict[str, Any]] = []
    sluice_history: list[dict[str, Any]] = []


class _Answered(Struct):
    output: list[dict[str, Any]] = []


def to_items(body: bytes) -> list[dict[str, Any]]:
    """Return the input of a checked request as items, with those ids that the caller gave them."""
    value = _INPUT.decode(_MEMBERS.decode(body)["input"])
    items: list[dict[str, Any]] = [{"role": "user", "content": value}] if isinstance(value, str) else value
    return [_to_item(item) for item in items]


def _to_item(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type") or "message"
    whole = {"id": None, "type": kind} | ({"status": "completed"} if kind in _WITH_STATUS else {}) | item
    if kind == "message" and isinstance(item.get("content"), str):
        whole["content"] = [_text_part(item["content"], is_output=item["role"] == "assistant")]
    return whole


def _text_part(text: str, *, is_output: bool) -> dict[str, Any]:
    if is_output:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}


def output_item_id(job_id: str, prefix: str, place: int) -> str:
    """Return the id of an item of a job's output."""
    return prefix + shifted_ulid(job_id, (_OUTPUT_FROM + place) * _UNIT)


def ulid_of_item(item_id: str) -> str | None:
    """Return the ULID in an id that was given out here; None if it was not."""
    return parse_id(item_id, *PREFIX_OF.values())


def stored_request(body: bytes, items: Sequence[dict[str, Any]], history: Sequence[dict[str, Any]]) -> bytes:
    """Return the request as its job keeps it: a body that means the same wherever it is read."""
    members: dict[str, Any] = _MEMBERS.decode(body)
    members.pop(HISTORY, None)
    members["input"] = items
    return json.encode(members | ({HISTORY: history} if history else {}))


def own_items(request: bytes, job_id: str) -> list[dict[str, Any]]:
    """Return the items of a job's request, without what it continues, each with an id."""
    items = json.decode(request, type=_Asked).input
    for place, item in enumerate(items):
        ulid = shifted_ulid(job_id, (_INPUT_FROM + place) * _UNIT)
        item["id"] = item.get("id") or PREFIX_OF.get(item["type"], "item_") + ulid
    return items


def read_items(request: bytes) -> list[dict[str, Any]]:
    """Return all items of a stored request: what it continues and its own."""
    asked = json.decode(request, type=_Asked)
    return [*asked.sluice_history, *asked.input]


def all_items(job_id: str, request: bytes, answer: bytes | None) -> list[dict[str, Any]]:
    """Return what a response that continues another one begins with: that one's history, input and output."""
    history = json.decode(request, type=_Asked).sluice_history
    output = json.decode(answer, type=_Answered).output if answer else []
    return [*history, *own_items(request, job_id), *output]


def find_item(items: Iterable[dict[str, Any]], item_id: str) -> dict[str, Any] | None:
    """Return the item with this id that is not itself a reference."""
    return next((item for item in items if item.get("id") == item_id and item.get("type") != "item_reference"), None)
