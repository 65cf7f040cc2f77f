"""PostgreSQL without pgvector: the installation serves everything else, and collections say what is missing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio

from tests.conftest import make_settings, name_after
from tests.databases import new_postgres_database
from tests.installation import open_installation
from tests.libraries import EMBEDDER, Library, new_library
from tests.servers import RedisServer


@pytest_asyncio.fixture
async def owner_url(tmp_path: Path, postgres_url: str) -> str:
    """An empty database, as its superuser reaches it."""
    return await asyncio.to_thread(new_postgres_database, postgres_url, name_after(tmp_path))


@pytest_asyncio.fixture
async def library(tmp_path: Path, redis_server: RedisServer, owner_url: str) -> AsyncIterator[Library]:
    """A user with collections in an installation whose role may not create extensions."""
    role = f"of_{name_after(tmp_path)}"
    await execute(owner_url, f"CREATE role {role} LOGIN", f"GRANT ALL ON SCHEMA public TO {role}")
    url = owner_url.replace("//postgres", f"//{role}", 1)
    settings = make_settings(tmp_path, redis_server, database_url=url, vector_store_model=EMBEDDER)
    async with open_installation(settings) as installation:
        yield await new_library(installation)


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def test_all_but_collections_works(library: Library) -> None:
    collection = await library.collection()

    answers = [
        await library.upload(collection, "Trains leave."),
        await library.search("trains"),
        await library.search("trains", method="lexical"),
        await library.installation.post("/v1/vector_store", {"name": "s"}, headers=library.headers),
    ]

    for answer in answers:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (403, "feature_not_enabled")
        assert "pgvector" in error["message"]
    assert (await library.installation.chat()).status == 200
    assert await library.delete(f"/v1/collections/{collection}") == 204


async def test_collections_work_once_the_extension_is_there(library: Library, owner_url: str) -> None:
    collection = await library.collection()
    await execute(owner_url, "CREATE EXTENSION vector")

    async with open_installation(library.installation.state.settings):  # the next process that starts
        await library.document(collection, "Trains leave.")

    assert await library.found("trains") != []
