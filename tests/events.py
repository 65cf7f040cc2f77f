"""Read server-sent events in tests."""

from typing import Any

from msgspec import Struct


class Event(Struct):
    """One event as it came."""

    id: str | None
    event: str | None
    data: str


def parse_events(text: str) -> list[Event]:
    """Return the events of a body; comments and empty blocks are left out."""
    events = []
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            if colon and name:
                fields[name] = value.removeprefix(" ")
        if "data" in fields:
            events.append(Event(fields.get("id"), fields.get("event"), fields["data"]))
    return events


async def read_events(response: Any) -> list[Event]:
    """Return all events of a response."""
    return parse_events(await response.text())
