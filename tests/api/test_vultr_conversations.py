"""Conversations of a subscription, as the chat page of a portal uses them."""

import json
from typing import Any

from shared.conversations.tables import ConversationMessageRow, ConversationRow
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.events import read_events
from tests.installation import Installation
from tests.people import add_user, bearer, key_of, read
from tests.providers import ScriptedProvider, fails, says


async def begin(sluice: Installation, **members: Any) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the path of a new conversation, and the headers of its owner and of its subscription."""
    owner = await key_of(sluice, 2)
    made = (await (await sluice.post("/v2/inference", {"label": "s"}, headers=owner)).json())["subscription"]
    base = f"/v2/inference/{made['id']}/conversations"
    response = await sluice.post(base, {"model": "simulator"} | members, headers=owner)
    assert response.status == 201, await response.text()
    return f"{base}/{(await response.json())['conversation']['id']}", owner, bearer(made["api_key"])


async def said(sluice: Installation, path: str, headers: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return role, content and status of the messages."""
    found = (await read(sluice, path, headers=headers))["conversation"]["messages"]
    return [(one["role"], one["content"], one["status"]) for one in found]


async def test_a_conversation_remembers_what_was_said(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url, prices=(1, 1))
    path, owner, key = await begin(both, model="public")
    provider.script = [says("One."), says("Two.")]

    first = await (await both.post(f"{path}/messages", {"content": "What is it? " * 10}, headers=owner)).json()
    stream = await both.post(f"{path}/messages", {"content": "And then?", "stream": True}, headers=key)
    chunks = [json.loads(event.data) for event in (await read_events(stream))[:-1]]
    conversation = (await read(both, path, headers=owner))["conversation"]

    assert first["choices"][0]["message"]["content"] == "One."
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1]) == "Two."
    assert [one["content"] for one in provider.requests[1]["messages"]] == ["What is it? " * 10, "One.", "And then?"]
    assert provider.requests[0]["max_tokens"] == 512
    assert [one["content"] for one in conversation["messages"]] == ["What is it? " * 10, "One.", "And then?", "Two."]
    assert conversation["title"] == ("What is it? " * 10)[:60]
    answer = conversation["messages"][1]
    assert (answer["completion_id"], answer["status"], answer["vote"]) == (first["id"], "completed", None)
    await both.post(f"/v1/chat/completions/{first['id']}", {"vote": "down"}, headers=owner)
    assert (await read(both, path, headers=key))["conversation"]["messages"][1]["vote"] == "down"
    rows = await both.rows(ChargeRow)
    assert len({row.key_id for row in rows}) == 1  # all of it is the usage of the subscription
    assert (await read(both, "/v1/usage", headers=key))["current_month"]["requests"] == 2


async def test_one_question_at_a_time(idle: Installation) -> None:
    path, owner, _ = await begin(idle)
    later = {"Prefer": "respond-async"}

    first = await idle.post(f"{path}/messages", {"content": "a"}, headers=owner | later)
    second = await idle.post(f"{path}/messages", {"content": "b"}, headers=owner | later)

    assert (first.status, second.status) == (202, 409)
    error = (await second.json())["error"]
    assert (error["code"], second.headers["x-should-retry"]) == ("conversation_busy", "false")
    assert await said(idle, path, owner) == []
    await idle.post(f"/v1/jobs/{(await first.json())['id']}/cancel", headers=owner)
    assert await said(idle, path, owner) == [("user", "a", "completed"), ("assistant", "", "cancelled")]
    assert len(await idle.rows(JobRow)) == 1


async def test_an_answer_that_nobody_waited_for_is_there_later(both: Installation) -> None:
    path, owner, _ = await begin(both)

    made = await both.post(f"{path}/messages", {"content": "a"}, headers=owner | {"Prefer": "respond-async"})
    await read(both, f"/v1/jobs/{(await made.json())['id']}/result?wait=10", headers=owner)

    assert [role for role, *_ in await said(both, path, owner)] == ["user", "assistant"]
    assert [role for role, *_ in await said(both, path, owner)] == ["user", "assistant"]  # looked at twice, kept once


async def test_a_refused_question_is_forgotten(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    path, owner, _ = await begin(sluice, model=None)

    for body, status in (({}, 422), ({"content": ""}, 422), ({"content": "a"}, 422)):
        assert (await sluice.post(f"{path}/messages", body, headers=owner)).status == status
    unknown = await sluice.post(f"{path}/messages", {"content": "a", "model": "nobody"}, headers=owner)
    provider.default = fails(400, "No.")
    failed = await sluice.post(f"{path}/messages", {"content": "a", "model": "public"}, headers=owner)
    provider.default = says("Yes.")
    passed = await sluice.post(f"{path}/messages", {"content": "b"}, headers=owner)  # with the model of the last one

    assert (unknown.status, failed.status, passed.status) == (404, 400, 200)
    assert (await sluice.rows(ConversationRow))[0].model == "public"
    assert await said(sluice, path, owner) == [
        ("user", "a", "completed"), ("assistant", "", "failed"), ("user", "b", "completed"),
        ("assistant", "Yes.", "completed"),
    ]  # fmt: skip


async def test_a_repetition_leaves_the_conversation_free(sluice: Installation) -> None:
    path, owner, _ = await begin(sluice)
    keyed = owner | {"Idempotency-Key": "k"}

    first = await sluice.post(f"{path}/messages", {"content": "a"}, headers=keyed)
    again = await sluice.post(f"{path}/messages", {"content": "a"}, headers=keyed)
    other = await sluice.post(f"{path}/messages", {"content": "b"}, headers=owner)

    assert [response.status for response in (first, again, other)] == [200] * 3
    assert (await first.json())["id"] == (await again.json())["id"]
    assert [content for role, content, _ in await said(sluice, path, owner) if role == "user"] == ["a", "b"]


async def test_conversations_are_listed_renamed_and_deleted(both: Installation) -> None:
    path, owner, key = await begin(both)
    base = path.rpartition("/")[0]
    await both.post(f"{path}/messages", {"content": "a"}, headers=key)
    for number in range(2):
        await both.post(base, {"title": f"t{number}"}, headers=key)

    page = await read(both, f"{base}?limit=2", headers=owner)
    rest = await read(both, f"{base}?limit=2&after={page['conversations'][-1]['id']}", headers=owner)
    renamed = await both.patch(path, {"title": "new"}, headers=owner)

    assert ([one["title"] for one in page["conversations"]], page["has_more"]) == (["t1", "t0"], True)
    assert ([one["title"] for one in rest["conversations"]], rest["has_more"]) == (["a"], False)
    assert "messages" not in page["conversations"][0]
    assert (await renamed.json())["conversation"]["title"] == "new"
    assert len((await renamed.json())["conversation"]["messages"]) == 2
    assert (await both.delete(path, headers=key)).status == 204
    missing = await both.get(path, headers=key)
    assert (missing.status, (await missing.json())["error"]["code"]) == (404, "conversation_not_found")
    assert await both.rows(ConversationMessageRow) == []
    await both.delete(base.rpartition("/")[0], headers=owner)
    assert await both.rows(ConversationRow) == []


async def test_nobody_else_sees_a_conversation(sluice: Installation) -> None:
    path, owner, _ = await begin(sluice)
    stranger = await key_of(sluice, (await add_user(sluice))["id"])
    sister = (await (await sluice.post("/v2/inference", {"label": "x"}, headers=owner)).json())["subscription"]

    for headers in (stranger, bearer(sister["api_key"])):
        for method, suffix in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/messages")):
            body = {"title": "x", "content": "x"}
            response = await sluice.client.request(method, path + suffix, json=body, headers=headers)
            assert response.status == 404, (method, suffix)
    assert (await sluice.get(path, headers=owner)).status == 200
