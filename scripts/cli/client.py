"""HTTP, as the commands use it."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL


class ClientError(Exception):
    """What went wrong, as the user should read it."""


class Client:
    """One connection to an installation."""

    def __init__(self, url: str, key: str) -> None:
        """Raise `ClientError` for a URL that is none."""
        if not _is_url(url):
            raise ClientError(f"`{url}` is no URL such as http://127.0.0.1:8080/v1; see --url and OPENAI_BASE_URL.")
        self._url = url.rstrip("/")
        self._root = self._url.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Client":
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._http = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON answer; raises `ClientError`."""
        try:
            base = self._root if path.startswith("/v2/") else self._url
            async with self._session.request(method, base + path, **options) as response:
                await _check(response)
                return await response.json(content_type=None) if response.status != 204 else None
        except aiohttp.ClientError as error:
            raise ClientError(f"{self._url}: {error}") from error

    async def read(self, path: str, **options: Any) -> AsyncIterator[bytes]:
        """Yield the lines of an answer as they come; raises `ClientError`."""
        try:
            async with self._session.get(self._url + path, **options) as response:
                await _check(response)
                rest = b""
                async for chunk in response.content.iter_chunked(64 * 1024):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                if rest:
                    yield rest
        except aiohttp.ClientError as error:
            raise ClientError(f"{self._url}: {error}") from error

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise ClientError("The client is closed.")
        return self._http


def _is_url(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    try:
        message = (await response.json(content_type=None))["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.reason
    raise ClientError(f"{response.status}: {message}")
