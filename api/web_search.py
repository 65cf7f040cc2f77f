"""Search the web for a question: a tool that an operator may provide."""

from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Struct, json

from shared.bodies import read_at_most
from shared.errors import ApiError, BadRequestError
from shared.settings import Settings
from shared.unreadable import UNREADABLE

log = structlog.get_logger()
_PATIENCE_S: Final = 5.0
_MAX_BYTES: Final = 2 * 1024 * 1024
_MOST_RESULTS: Final = 5
_MOST_QUERY: Final = 400
_MOST_TEXT: Final = 800
"""Characters."""


class WebSearchUnavailableError(BadRequestError):
    """The web cannot be searched here, but the request insists on it."""

    code = "web_search_unavailable"

    def __init__(self) -> None:
        super().__init__("There is no source for searches of the web.", param="web_search")


class WebSearchFailedError(ApiError):
    """The source of searches of the web is out of order."""

    status, code = 503, "web_search_failed"

    def __init__(self) -> None:
        super().__init__("The web cannot be searched now, please try again later.", headers={"retry-after": "5"})


class WebSearch(Protocol):
    """Finds passages for a question."""

    async def search(self, question: str) -> str | None:
        """Return what was found, as text for a model; None if nothing was.  Raises `WebSearchFailedError`."""
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
        """Return the best results; raises `WebSearchFailedError`."""
        query = {"q": " ".join(question.split())[:_MOST_QUERY], "format": "json"}
        timeout = ClientTimeout(total=_PATIENCE_S)
        try:
            async with self._http.get(self._url, params=query, timeout=timeout, allow_redirects=False) as response:
                body = await read_at_most(response.content, _MAX_BYTES)
                if response.status != 200:
                    log.warning("web_search_failed", status=response.status)
                    raise WebSearchFailedError
            found = json.decode(body, type=_Results).results
        except (*UNREADABLE, ClientError, OSError, TimeoutError) as error:
            log.warning("web_search_failed", error=repr(error))
            raise WebSearchFailedError from error
        return describe(found[:_MOST_RESULTS])


def open_web_search(settings: Settings, http: ClientSession) -> WebSearch | None:
    """Return the source of searches that the operator provides; None if there is none."""
    return None if settings.searxng_url is None else SearXNG(http, settings.searxng_url)


def describe(results: Sequence[_Result]) -> str | None:
    """Return numbered results with their addresses; None if there are none."""
    texts = [
        f"[{number}] {one.title}\n{one.url}\n{(one.content or '')[:_MOST_TEXT]}".rstrip()
        for number, one in enumerate(results, start=1)
    ]
    return "\n\n".join(texts) or None
