"""What an administrator sees of jobs, batches and files of an organization that keeps its content to itself."""

from typing import Any

from tests.batches import BATCHES, CHATS, add_input, chat_line, ended, make_batch
from tests.installation import Installation
from tests.people import ORGANIZATIONS, add_user, changed, create, key_of

READS = ("/v1/jobs/{}/result", "/v1/jobs/{}/events", "/v1/chat/completions/{}", "/v1/chat/completions/{}/messages")


async def test_an_administrator_sees_jobs_but_not_what_they_say(sluice: Installation) -> None:
    organization = await create(sluice, ORGANIZATIONS, name="discreet", content_policy="metadata")
    user = await add_user(sluice, "ada@example.com", organization=organization["id"])
    owner = await key_of(sluice, user["id"])
    job = (await sluice.chat(headers=owner, store=True)).headers["x-job-id"]

    async def statuses(headers: dict[str, str]) -> set[int]:
        return {(await sluice.get(path.format(job), headers=headers)).status for path in READS}

    assert await statuses(owner) == {200}
    assert await statuses(sluice.headers) == {403}
    assert (await sluice.get(f"/v1/jobs/{job}")).status == 200
    assert (await sluice.get(f"/v1/jobs/{job}/attempts")).status == 200
    failed = (await sluice.chat(headers=owner, simulator={"fail": "400"})).headers["x-job-id"]
    assert (await sluice.post(f"/v1/jobs/{failed}/retry", {})).status == 403, "the new job would be the administrator's"
    await changed(sluice, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    assert await statuses(sluice.headers) == {403}, "it was sent under the other policy"
    job = (await sluice.chat(headers=owner, store=True)).headers["x-job-id"]
    assert await statuses(sluice.headers) == {200}


async def test_an_administrator_sees_batches_and_files_but_not_what_is_in_them(sluice: Installation) -> None:
    organization = await create(sluice, ORGANIZATIONS, name="discreet", content_policy="metadata")
    user = await add_user(sluice, "ada@example.com", organization=organization["id"])
    owner = await key_of(sluice, user["id"])

    async def statuses(batch: dict[str, Any], headers: dict[str, str]) -> set[int]:
        names = ("input_file_id", "output_file_id", "error_file_id")
        files = (f"/v1/files/{batch[name]}/content" for name in names if batch[name])
        reads = [await sluice.get(path, headers=headers) for path in (f"{BATCHES}/{batch['id']}/results", *files)]
        sent = {"input_file_id": batch["input_file_id"], "endpoint": CHATS, "completion_window": "24h"}
        again = await sluice.post(BATCHES, sent, headers=headers)
        retried = await sluice.post(f"{BATCHES}/{batch['id']}/retry", {"custom_ids": ["b"]}, headers=headers)
        return {answer.status for answer in (*reads, again, retried)}

    async def ran() -> Any:
        lines = (chat_line("a"), chat_line("b", body={"simulator": {"fail": "400"}}))
        return await ended(sluice, (await make_batch(sluice, *lines, headers=owner))["id"])

    batch = await ran()
    assert await statuses(batch, sluice.headers) == {403}
    assert await statuses(batch, owner) == {200}
    assert (await sluice.get(f"{BATCHES}/{batch['id']}/requests")).status == 200
    assert (await sluice.get(f"/v1/files/{batch['output_file_id']}")).status == 200
    await changed(sluice, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    assert await statuses(batch, sluice.headers) == {403}, "it came in under the other policy"
    again = await ended(sluice, (await retry(sluice, batch["id"], owner))["id"])
    assert await statuses(again, sluice.headers) == {403}, "its lines came in under the other policy"
    assert (await follow(sluice, again["id"], sluice.headers), await follow(sluice, again["id"], owner)) == (403, 200)
    assert await statuses(await ran(), sluice.headers) == {200}


async def test_what_goes_on_from_earlier_words_keeps_their_policy(sluice: Installation) -> None:
    organization = await create(sluice, ORGANIZATIONS, name="discreet", content_policy="metadata")
    owner = await key_of(sluice, (await add_user(sluice, organization=organization["id"]))["id"])

    async def respond(**members: Any) -> dict[str, Any]:
        answer = await sluice.post("/v1/responses", {"model": "simulator", "input": "Hi"} | members, headers=owner)
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found

    async def status(response: dict[str, Any]) -> int:
        return (await sluice.get(f"/v1/responses/{response['id']}")).status

    first = await respond()
    await changed(sluice, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    second = await respond(previous_response_id=first["id"])
    third = await respond(previous_response_id=second["id"])
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    referring = await respond(input=[reference, {"role": "user", "content": "Hi"}])

    assert [await status(one) for one in (first, second, third, referring)] == [403] * 4
    assert await status(await respond()) == 200


async def test_lines_and_files_that_say_earlier_words_again_keep_their_policy(sluice: Installation) -> None:
    organization = await create(sluice, ORGANIZATIONS, name="discreet", content_policy="metadata")
    owner = await key_of(sluice, (await add_user(sluice, organization=organization["id"]))["id"])
    first = await (await sluice.post("/v1/responses", {"model": "simulator", "input": "Hi"}, headers=owner)).json()
    file_id = await add_input(sluice, b"Some text.", headers=owner, purpose="user_data")
    await changed(sluice, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})

    async def results(**members: Any) -> int:
        body = {"model": "simulator", "input": "Hi"} | members
        line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
        batch = await make_batch(sluice, line, headers=owner, endpoint="/v1/responses")
        await ended(sluice, batch["id"])
        return (await sluice.get(f"{BATCHES}/{batch['id']}/results?include=input")).status

    content = [{"type": "file", "file": {"file_id": file_id}}, {"type": "text", "text": "What is in it?"}]
    body = {"model": "simulator", "messages": [{"role": "user", "content": content}]}
    quoting = await sluice.post("/v1/chat/completions", body, headers=owner)

    assert (await results(previous_response_id=first["id"]), await results()) == (403, 200)
    assert quoting.status == 200, await quoting.text()
    assert (await sluice.get(f"/v1/jobs/{quoting.headers['x-job-id']}/result")).status == 403


async def test_a_conversation_keeps_its_policy(sluice: Installation) -> None:
    organization = await create(sluice, ORGANIZATIONS, name="discreet", content_policy="metadata")
    owner = await key_of(sluice, (await add_user(sluice, organization=organization["id"]))["id"])
    subscription = (await create_as(sluice, owner, "/v2/inference", label="l"))["subscription"]
    conversations = f"/v2/inference/{subscription['id']}/conversations"

    async def begin() -> str:
        return f"{conversations}/{(await create_as(sluice, owner, conversations))['conversation']['id']}/messages"

    async def ask(path: str) -> int:
        answer = await sluice.post(path, {"content": "Hi", "model": "simulator"}, headers=owner)
        assert answer.status == 200, await answer.text()
        return (await sluice.get(f"/v1/jobs/{answer.headers['x-job-id']}/result")).status

    path = await begin()
    assert await ask(path) == 403
    await changed(sluice, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    assert await ask(path) == 403, "it has what was said before"
    assert await ask(path) == 403
    assert await ask(await begin()) == 200


async def create_as(sluice: Installation, headers: dict[str, str], path: str, **body: Any) -> Any:
    answer = await sluice.post(path, body, headers=headers)
    assert answer.status == 201, await answer.text()
    return await answer.json()


async def follow(sluice: Installation, batch_id: str, headers: dict[str, str]) -> int:
    return (await sluice.get(f"{BATCHES}/{batch_id}/results?follow_retries=true", headers=headers)).status


async def retry(sluice: Installation, batch_id: str, headers: dict[str, str]) -> Any:
    return await (await sluice.post(f"{BATCHES}/{batch_id}/retry", {"custom_ids": ["b"]}, headers=headers)).json()
