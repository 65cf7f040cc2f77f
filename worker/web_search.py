"""Search the web for a question: a tool that an operator may provide."""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Struct, json

from shared.bodies import read_at_most

log = structlog.get_logger()
_PATIENCE_S: Final = 5.0
_MAX_BYTES: Final = 2 * 1024 * 1024
_MOST_RESULTS: Final = 5
_MOST_QUERY: Final = 400
_MOST_TEXT: Final = 800
"""Characters."""


class WebSearch(Protocol):
    """Finds passages for a question."""

    async def search(self, question: str) -> str | None:
        """Return what was found, as text for a model; None if nothing was, or the search does not work."""
        ...


class _Result(Struct):
    title: str = ""
    url: str = ""
    content: str | None = None


class _Results(Struct):
    results: list[_Result] = []


class SearXNG:
    """Asks a SearXNG server, whose `json` format must be enabled.

    Source: SearXNG documentation, "Search API".
    """

    def __init__(self, http: ClientSession, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/") + "/search"

    async def search(self, question: str) -> str | None:
        """Return the best results; a search that fails costs the answer nothing but its results."""
        query = {"q": " ".join(question.split())[:_MOST_QUERY], "format": "json"}
        timeout = ClientTimeout(total=_PATIENCE_S)
        try:
            async with self._http.get(self._url, params=query, timeout=timeout, allow_redirects=False) as response:
                body = await read_at_most(response.content, _MAX_BYTES)
                if response.status != 200:
                    log.warning("web_search_failed", status=response.status)
                    return None
            found = json.decode(body, type=_Results).results
        except (ClientError, OSError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("web_search_failed", error=repr(error))
            return None
        return describe(found[:_MOST_RESULTS])


def describe(results: Sequence[_Result]) -> str | None:
    """Return numbered results with their addresses; None if there are none."""
    texts = [
        f"[{number}] {one.title}\n{one.url}\n{(one.content or '')[:_MOST_TEXT]}".rstrip()
        for number, one in enumerate(results, start=1)
    ]
    return "\n\n".join(texts) or None
