"""Collections: own and public ones; on both databases."""

from typing import Any

from shared.chunks.tables import ChunkRow
from shared.collections.tables import CollectionRow
from shared.documents.tables import DocumentRow
from tests.libraries import COLLECTIONS, DOCUMENTS, Library, new_library
from tests.people import ROLES, changed, create, refused


async def other_library(library: Library, email: str = "publisher@example.com") -> Library:
    """Return the library of a user who may publish."""
    role = await create(
        library.installation, ROLES, name="publishers", permissions=["create_public_collection"],
        limits=[{"router": 2, "type": "rpm"}],
    )  # fmt: skip
    return await new_library(library.installation, email, role=role["id"])


async def test_a_collection_is_made_read_changed_and_deleted(library: Library) -> None:
    response = await library.installation.post(COLLECTIONS, {"name": " Notes ", "x": 1}, headers=library.headers)
    made = await response.json()
    path = f"{COLLECTIONS}/{made['id']}"

    assert response.status == 201
    assert made == {
        "object": "collection", "id": made["id"], "name": "Notes", "owner": "reader@example.com", "description": None,
        "visibility": "private", "rerank_model": None, "created": made["created"], "updated": made["created"],
        "documents": 0,
    }  # fmt: skip
    await changed(library.installation, path, {"description": "d", "name": None}, headers=library.headers)
    await library.document(made["id"], "Hello")
    read = await library.read(path)
    assert (read["description"], read["name"], read["documents"]) == ("d", "Notes", 1)

    assert await library.delete(path) == 204
    assert await library.delete(path) == 404
    for table in (CollectionRow, DocumentRow, ChunkRow):
        assert await library.installation.rows(table) == []


async def test_public_collections_are_read_by_all_and_changed_by_their_owner(library: Library) -> None:
    publisher = await other_library(library)
    public = await publisher.collection("news", visibility="public")
    document = await publisher.document(public, "Trains leave every hour.")
    mine = await library.collection("mine")

    listed = await library.read(COLLECTIONS + "?visibility=public")
    every = await library.read(COLLECTIONS + "?sort_by=name&sort_order=desc")

    assert ([one["id"] for one in listed["data"]], listed["total"]) == ([public], 1)
    assert [one["name"] for one in every["data"]] == ["news", "mine"]
    assert [one["id"] for one in (await library.read(COLLECTIONS + "?name=mine"))["data"]] == [mine]
    assert (await library.read(f"{DOCUMENTS}/{document}"))["collection_id"] == public
    assert await library.found("trains") == [(document, 0)]
    assert await library.found("trains", collection_ids=[mine]) == []
    refusals = [
        await refused(
            await library.installation.patch(f"{COLLECTIONS}/{public}", {"name": "x"}, headers=library.headers)
        ),
        await refused(await library.upload(public, "x")),
        await refused(await library.installation.get(f"{DOCUMENTS}/{document}/chunks", headers=library.headers)),
    ]
    assert refusals == [(404, "Collection not found."), (404, "Collection not found."), (404, "Document not found.")]


async def test_publishing_needs_a_permission(library: Library) -> None:
    mine = await library.collection()
    missing = (403, "Missing permission to update collection visibility to public.")
    public = {"visibility": "public"}

    created = await library.installation.post(COLLECTIONS, {"name": "x"} | public, headers=library.headers)
    updated = await library.installation.patch(f"{COLLECTIONS}/{mine}", public, headers=library.headers)
    master = await library.installation.post(COLLECTIONS, {"name": "x"})

    assert (await refused(created), await refused(updated)) == (missing, missing)
    assert await refused(master) == (400, "Master user is not allowed to create collection.")


async def test_what_a_collection_may_not_be(library: Library) -> None:
    bodies: list[Any] = [
        {}, {"name": ""}, {"name": "  "}, {"name": "a\x00"}, {"name": "x" * 256}, {"name": "x", "visibility": "Public"},
        {"name": "x", "description": 5},
    ]  # fmt: skip
    for body in bodies:
        response = await library.installation.post(COLLECTIONS, body, headers=library.headers)
        assert response.status == 422, body
    for path in ("0", "-1", "999999"):
        answer = await library.installation.get(f"{COLLECTIONS}/{path}", headers=library.headers)
        assert await refused(answer) == (404, "Collection not found."), path
    assert (await library.installation.get(COLLECTIONS + "/abc", headers=library.headers)).status == 422
    assert (await library.installation.delete(COLLECTIONS + "/1?required=x", headers=library.headers)).status == 422


async def test_the_collections_of_a_deleted_user_are_gone(library: Library) -> None:
    publisher = await other_library(library)
    await publisher.document(await publisher.collection("news", visibility="public"), "Trains leave every hour.")
    users = (await (await library.installation.get("/v1/admin/users?limit=100")).json())["data"]
    user = next(one["id"] for one in users if one["email"] == "publisher@example.com")

    assert (await library.installation.delete(f"/v1/admin/users/{user}")).status == 204

    assert (await library.read(COLLECTIONS))["total"] == 0
    assert await library.found("trains", method="lexical") == []
