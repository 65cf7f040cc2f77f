"""Collections for tests: an installation with an embedding model, people, and files that become documents."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

from aiohttp import FormData

from shared.settings import Settings
from tests.installation import Installation, open_installation
from tests.people import add_user, key_of

COLLECTIONS, DOCUMENTS, SEARCH = "/v1/collections", "/v1/documents", "/v1/search"
EMBEDDER = "simulator-embedding"


class Library:
    """One user of an installation, with collections."""

    def __init__(self, installation: Installation, headers: dict[str, str]) -> None:
        self.installation = installation
        self.headers = headers

    async def collection(self, name: str = "first", **members: Any) -> int:
        """Create a collection; returns its id."""
        response = await self.installation.post(COLLECTIONS, {"name": name} | members, headers=self.headers)
        assert response.status == 201, await response.text()
        return int((await response.json())["id"])

    async def upload(
        self, collection_id: int | None, data: bytes | str | None, name: str = "a.txt", content_type: str | None = None,
        headers: dict[str, str] | None = None, **fields: Any,
    ) -> Any:  # fmt: skip
        """Post a file; returns the response.  A field whose value is a list is repeated; `title` is the `name`."""
        form = FormData()
        form._is_multipart = True  # also without a file
        fields = {"name" if key == "title" else key: value for key, value in fields.items()}
        if collection_id is not None:
            form.add_field("collection_id", str(collection_id))
        for key, value in fields.items():
            for one in value if isinstance(value, list) else [value]:
                form.add_field(key, str(one))
        if data is not None:
            raw = data.encode() if isinstance(data, str) else data
            form.add_field("file", BytesIO(raw), filename=name, content_type=content_type or "application/octet-stream")
        own = self.installation.headers | self.headers | (headers or {})
        return await self.installation.client.post(DOCUMENTS, data=form, headers=own)

    async def document(self, collection_id: int, data: bytes | str, name: str = "a.txt", **fields: Any) -> int:
        """Post a file that becomes a document; returns its id."""
        response = await self.upload(collection_id, data, name, **fields)
        assert response.status == 201, await response.text()
        return int((await response.json())["id"])

    async def search(self, query: str, **members: Any) -> Any:
        """Return the response of a search."""
        return await self.installation.post(SEARCH, {"query": query} | members, headers=self.headers)

    async def found(self, query: str, **members: Any) -> list[tuple[int, int]]:
        """Return document and chunk of what a search found."""
        response = await self.search(query, **members)
        answer = await response.json()
        assert response.status == 200, answer
        return [(one["chunk"]["document_id"], one["chunk"]["id"]) for one in answer["data"]]

    async def read(self, path: str, **options: Any) -> Any:
        response = await self.installation.get(path, headers=self.headers, **options)
        assert response.status == 200, await response.text()
        return await response.json()

    async def delete(self, path: str) -> int:
        return int((await self.installation.delete(path, headers=self.headers)).status)


@asynccontextmanager
async def open_library(settings: Settings, **options: Any) -> AsyncIterator[Library]:
    """Yield the library of an ordinary user in an installation of its own."""
    async with open_installation(settings, **options) as installation:
        yield await new_library(installation)


async def new_library(installation: Installation, email: str = "reader@example.com", **members: Any) -> Library:
    """Return the library of a new user."""
    user = await add_user(installation, email, **members)
    return Library(installation, await key_of(installation, user["id"]))
