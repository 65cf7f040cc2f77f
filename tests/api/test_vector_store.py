"""Vector stores: ids, items, files, search; on both databases."""

import io
from typing import Any

from aiohttp import FormData

from shared.chunks.tables import ChunkRow
from shared.collections.tables import CollectionRow
from shared.documents.tables import DocumentRow, ItemRow
from shared.revision import raise_revision
from shared.routers.tables import RouterRow
from tests.api.test_documents import use_provider
from tests.libraries import Library, new_library
from tests.people import bearer
from tests.providers import ScriptedProvider, embeds, fails, hangs
from tests.waiting import eventually
from worker.knowledge_sweep import sweep_documents

STORES = "/v1/vector_store"


async def send(library: Library, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """Return the answer of a call that ends with this status."""
    headers = library.installation.headers | library.headers
    response = await library.installation.client.request(method, STORES + path, json=body, headers=headers)
    text = await response.text()
    assert response.status == status, text
    return await response.json() if text else None


async def upload(library: Library, path: str, data: bytes, name: str = "policy.md") -> Any:
    form = FormData()
    form.add_field("file", data, filename=name, content_type="application/octet-stream")
    headers = library.installation.headers | library.headers
    return await library.installation.client.post(STORES + path, data=form, headers=headers)


async def new_store(library: Library, name: str = "Support notes!") -> str:
    return str((await send(library, "POST", "", {"name": name}, 201))["collection"]["id"])


async def test_ids_are_made_of_names_and_stay(library: Library) -> None:
    names = ["Support notes!", "Support notes", "Größe  Ⅷ", "!!!", "x" * 80]
    ids = [await new_store(library, name) for name in names]

    assert ids == ["support-notes", "support-notes-2", "gro-e-viii", "collection", "x" * 48]
    renamed = await send(library, "PUT", "/support-notes", {"name": "Other"})
    assert (renamed["collection"]["id"], renamed["collection"]["name"]) == ("support-notes", "Other")
    await send(library, "DELETE", "/support-notes", status=204)
    await send(library, "DELETE", "/support-notes", status=404)
    assert await new_store(library, "Support notes") == "support-notes"
    first = await send(library, "GET", "?limit=2")
    rest = await send(library, "GET", f"?limit=9&after={first['last_id']}")
    assert [one["id"] for one in first["collections"]] == ["support-notes-2", "gro-e-viii"]
    assert first["has_more"]
    assert [one["id"] for one in rest["collections"]] == ["collection", "x" * 48, "support-notes"]
    assert "has_more" not in await send(library, "GET", "")


async def test_an_item_is_found_described_and_deleted(library: Library) -> None:
    store = await new_store(library)
    content = "Returns are free of charge for thirty days. " * 5

    made = await send(library, "POST", f"/{store}/items", {"content": content, "auto_embed": False}, 201)
    other = await send(library, "POST", f"/{store}/items", {"content": "Bread.", "description": "Food"}, 201)

    item = made["item"]
    short = content[:100].rpartition(" ")[0] + "…"
    assert item == {
        "id": item["id"], "created": item["created"], "description": short, "content": content, "file_id": None,
        "chunks": 1, "tokens": made["usage"]["prompt_tokens"],
    }  # fmt: skip
    assert item["created"].endswith("Z")
    assert await send(library, "GET", f"/{store}/items/{item['id']}") == {"item": item}
    listed = (await send(library, "GET", f"/{store}/items"))["items"]
    assert [one["id"] for one in listed] == [item["id"], other["item"]["id"]]
    assert all("content" not in one for one in listed)
    found = await send(library, "POST", f"/{store}/search", {"input": "bread.", "limit": 1})
    assert [(one["id"], one["content"], one["description"]) for one in found["results"]] == [
        (other["item"]["id"], "Bread.", "Food")
    ]
    assert found["usage"]["prompt_tokens"] > 0
    changed = await send(library, "PUT", f"/{store}/items/{other['item']['id']}", {"description": None, "content": "x"})
    assert (changed["item"]["description"], changed["item"]["content"]) == ("Bread.", "Bread.")
    await send(library, "PUT", f"/{store}/items/{other['item']['id']}", {}, 422)
    info = (await send(library, "GET", f"/{store}"))["collection"]
    assert (info["items"], info["files"], info["embedding_model"]) == (2, 0, "simulator-embedding")
    assert info["dimensions"] > 0
    await send(library, "DELETE", f"/{store}/items/{item['id']}", status=204)
    await send(library, "DELETE", f"/{store}/items/{item['id']}", status=404)
    assert len(await library.installation.rows(ItemRow)) == len(await library.installation.rows(ChunkRow)) == 1


async def test_a_long_text_has_several_vectors_and_is_one_result(library: Library) -> None:
    async with library.installation.state.database.transaction() as session:
        (await session.get_one(RouterRow, 2)).max_context_length = 50
        await raise_revision(session)
    await library.installation.state.directory.refresh()
    store = await new_store(library)
    content = " ".join(f"Sentence number {number} is about trains." for number in range(40))

    refused = await send(library, "POST", f"/{store}/items", {"content": content, "auto_chunk": False}, 422)
    made = await send(library, "POST", f"/{store}/items", {"content": content}, 201)
    found = await send(library, "POST", f"/{store}/search", {"input": "trains"})

    assert refused["error"]["code"] == "content_too_long"
    assert made["item"]["chunks"] > 3
    assert [one["id"] for one in found["results"]] == [made["item"]["id"]]
    assert found["results"][0]["content"] != content
    assert (await send(library, "GET", f"/{store}/items/{made['item']['id']}"))["item"] == made["item"]


async def until_over(library: Library, path: str) -> Any:
    async def find() -> Any:
        file = (await send(library, "GET", path))["file"]
        return file if file["status"] in ("completed", "failed") else None

    return await eventually(find)


async def test_a_file_becomes_items(library: Library) -> None:
    store = await new_store(library)
    text = "\n\n".join(f"# Part {part}\n\n" + f"About part {part}, in words. " * 50 for part in range(3))

    response = await upload(library, f"/{store}/files", text.encode())

    made = (await response.json())["file"]
    assert (response.status, made["status"], made["bytes"], made["error"]) == (201, "enqueued", len(text), None)
    file = await until_over(library, f"/{store}/files/{made['id']}")
    items = (await send(library, "GET", f"/{store}/items"))["items"]
    assert (file["status"], file["items"], file["id"]) == ("completed", len(items), made["id"])
    assert file["tokens"] == sum(item["tokens"] for item in items) > 0
    assert items[0]["description"] == f"policy.md [1/{len(items)}]"
    assert {item["file_id"] for item in items} == {made["id"]}
    found = await send(library, "POST", f"/{store}/search", {"input": "About part 2"})
    assert found["results"][0]["file_id"] == made["id"]
    again = (await (await upload(library, f"/{store}/files", text.encode())).json())["file"]
    assert again["id"] == made["id"]

    await send(library, "DELETE", f"/{store}/items/{items[0]['id']}", status=204)
    assert (await send(library, "GET", f"/{store}/files/{made['id']}"))["file"]["items"] == len(items) - 1
    await send(library, "DELETE", f"/{store}/files/{made['id']}", status=204)
    await send(library, "GET", f"/{store}/files/{made['id']}", status=404)
    assert await library.installation.rows(ItemRow) == await library.installation.rows(ChunkRow) == []


async def test_a_failed_file_keeps_no_items(library: Library, provider: ScriptedProvider) -> None:
    store = await new_store(library)
    bad = (await (await upload(library, f"/{store}/files", b"%PDF nonsense", "a.pdf")).json())["file"]
    bad = await until_over(library, f"/{store}/files/{bad['id']}")
    await use_provider(library, provider)
    provider.script = [embeds()] * 3
    provider.default = fails(400, "No.")
    text = "\n\n".join(f"# Part {part}\n\n" + "In many words. " * 90 for part in range(140))

    made = (await (await upload(library, f"/{store}/files", text.encode())).json())["file"]
    failed = await until_over(library, f"/{store}/files/{made['id']}")

    assert (bad["status"], bad["error"]) == ("failed", "Parsing document failed: the file is damaged.")
    assert (failed["status"], failed["error"], failed["items"], failed["tokens"]) == ("failed", "No.", 0, 0)
    assert (await send(library, "GET", f"/{store}"))["collection"]["files"] == 2
    assert await library.installation.rows(ItemRow) == await library.installation.rows(ChunkRow) == []


async def test_a_file_that_is_processed_can_be_deleted(library: Library, provider: ScriptedProvider) -> None:
    store = await new_store(library)
    await use_provider(library, provider)
    provider.default = hangs()
    made = (await (await upload(library, f"/{store}/files", b"Hello")).json())["file"]
    await eventually(lambda: provider.running == 1)
    assert (await send(library, "GET", f"/{store}/files/{made['id']}"))["file"]["status"] == "processing"

    await send(library, "DELETE", f"/{store}/files/{made['id']}", status=204)

    await eventually(lambda: provider.running == 0)
    assert (await send(library, "GET", f"/{store}/files"))["files"] == []
    assert await library.installation.rows(DocumentRow) == []


async def test_strangers_see_nothing(library: Library) -> None:
    store = await new_store(library)
    await send(library, "POST", f"/{store}/items", {"content": "Hello"}, 201)
    stranger = await new_library(library.installation, "stranger@example.com")

    assert (await send(stranger, "GET", ""))["collections"] == []
    for method, path, body in (
        ("GET", "", None), ("PUT", "", {"name": "x"}), ("DELETE", "", None), ("GET", "/items", None),
        ("POST", "/items", {"content": "x"}), ("GET", "/files", None), ("POST", "/search", {"input": "x"}),
    ):  # fmt: skip
        answer = await send(stranger, method, f"/{store}{path}", body, 404)
        assert answer["error"]["code"] == "collection_not_found"
    assert (await library.read("/v1/collections"))["total"] == 0
    assert await library.found("Hello") == []


async def test_the_stores_of_a_subscription_are_its_own_and_end_with_it(library: Library) -> None:
    sluice = library.installation
    made = (await (await sluice.post("/v2/inference", {"label": "x"}, headers=library.headers)).json())["subscription"]
    subscriber = Library(sluice, bearer(made["api_key"]))
    own, other = await new_store(library), await new_store(subscriber)
    assert own == other == "support-notes"
    await send(subscriber, "POST", "/support-notes/items", {"content": "Bread."}, 201)

    assert (await send(library, "GET", "/support-notes"))["collection"]["items"] == 0
    assert len((await send(subscriber, "GET", ""))["collections"]) == 1
    rag = {"model": "simulator", "collection": "Support notes!", "messages": [{"role": "user", "content": "Bread?"}]}
    answer = await (await sluice.post("/v1/chat/completions/RAG", rag, headers=subscriber.headers)).json()
    assert [one["content"] for one in answer["retrieval"]["results"]] == ["Bread."]
    assert (await sluice.delete(f"/v2/inference/{made['id']}", headers=library.headers)).status == 204

    await send(subscriber, "GET", "", status=401)
    assert sluice.runtime is not None
    await sweep_documents(sluice.runtime)
    assert [row.owner_key_id for row in await sluice.rows(CollectionRow)] == [0]
    assert await sluice.rows(ChunkRow) == await sluice.rows(DocumentRow) == []


async def test_what_a_store_may_not_take(library: Library) -> None:
    store = await new_store(library)
    cases: list[tuple[str, Any]] = [
        ("", {"name": ""}), ("", {"name": "x" * 256}), (f"/{store}/items", {"content": ""}),
        (f"/{store}/items", {"content": "x", "description": "y" * 256}), (f"/{store}/items", {}),
        (f"/{store}/items", {"content": "a\x00"}), (f"/{store}/search", {}), (f"/{store}/search", {"input": " "}),
        (f"/{store}/search", {"input": "x" * 8193}), (f"/{store}/search", {"input": "x", "limit": 51}),
        (f"/{store}/search", {"input": "x", "score_threshold": 2}),
    ]  # fmt: skip
    for path, body in cases:
        await send(library, "POST", path, body, 422)
    large = io.BytesIO(b'{"content": "%b"}' % (b"x" * (2**20 + 1)))
    headers = library.installation.headers | library.headers
    assert (
        await library.installation.client.post(f"{STORES}/{store}/items", data=large, headers=headers)
    ).status == 422
    for name, data, status in (("a.exe", b"x", 422), ("a.txt", b"", 422), ("a", b"x", 422)):
        assert (await upload(library, f"/{store}/files", data, name)).status == status, name
    for path in (f"/{store}/items/item_x", f"/{store}/items/{'0' * 26}", f"/{store}/files/file-{'0' * 26}"):
        await send(library, "GET", path, status=404)
    assert await library.installation.rows(DocumentRow) == []
