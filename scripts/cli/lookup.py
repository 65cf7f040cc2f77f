"""From what people call an object to its id."""

from typing import Any, Final

from client import Client, ClientError
from nouns import Noun

_PAGE: Final = 100
_ALL: Final = 10**9


async def read_page(client: Client, noun: Noun, limit: int, query: dict[str, str]) -> tuple[list[Any], int]:
    """Return at most so many objects in the order of their ids, and how many there are."""
    rows: list[Any] = []
    while True:
        wanted = str(max(min(limit - len(rows), _PAGE), 1))
        page = await client.ask("GET", noun.path, params=query | {"limit": wanted, "offset": str(len(rows))})
        rows += page["data"]
        if not page["data"] or len(rows) >= min(limit, page["total"]):
            return rows[:limit], page["total"]


async def id_of(client: Client, noun: Noun, text: str) -> int:
    """Return the id itself, or that of the one object with this name; raises `ClientError`."""
    if text.isdecimal():
        return int(text)
    query = {"email": text} if noun.name == "users" else {}
    rows, _ = await read_page(client, noun, _ALL, query)
    ids = [int(row["id"]) for row in rows if text in (row[noun.called_by], *row.get("aliases", ()))]
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise ClientError(f"No {noun.singular} is called `{text}`.")
    raise ClientError(f"{len(ids)} {noun.name} are called `{text}`: {', '.join(map(str, ids))}. Use the id.")
