"""Files that a chat names by their ids."""

from base64 import b64encode
from typing import Any

from aiohttp import FormData

from shared.jobs.tables import JobRow
from tests.installation import Installation
from tests.people import key_of
from tests.providers import ScriptedProvider

PDF = b"%PDF-1.4 not much"


async def upload(sluice: Installation, headers: dict[str, str]) -> str:
    form = FormData()
    form.add_field("purpose", "user_data")
    form.add_field("file", PDF, filename="policy.pdf", content_type="application/pdf")
    response = await sluice.client.post("/v1/files", data=form, headers=headers)
    assert response.status == 200, await response.text()
    return str((await response.json())["id"])


def about(file_id: str, **members: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "file", "file": {"file_id": file_id} | members}]
    return {"messages": [{"role": "user", "content": parts}]}


async def test_a_provider_gets_the_file_itself(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url)
    user = await key_of(both, 2)
    file_id = await upload(both, user)

    response = await both.post("/v1/chat/completions", {"model": "public", **about(file_id)}, headers=user)

    assert response.status == 200, await response.text()
    [part] = provider.requests[0]["messages"][0]["content"][1:]
    data = "data:application/pdf;base64," + b64encode(PDF).decode()
    assert part == {"type": "file", "file": {"filename": "policy.pdf", "file_data": data}}
    assert file_id in str((await both.rows(JobRow))[-1].request)  # stored as it was sent


async def test_a_file_that_is_not_the_callers_is_not_found(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    foreign = await upload(sluice, sluice.headers)
    user = await key_of(sluice, 2)
    gone = await upload(sluice, user)
    await sluice.client.delete(f"/v1/files/{gone}", headers=user)

    answers = [
        await sluice.post("/v1/chat/completions", {"model": "public", **about(one)}, headers=user)
        for one in (foreign, "file-1", gone)
    ]

    assert [answer.status for answer in answers] == [404, 404, 410]
    assert [(await answer.json())["error"]["code"] for answer in answers] == ["file_not_found"] * 2 + ["file_gone"]
    assert provider.requests == []


async def test_a_file_that_goes_while_its_chat_waits_ends_it(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    user = await key_of(sluice, 2)
    file_id = await upload(sluice, user)
    assert sluice.runtime is not None
    await sluice.runtime.uploads.delete([file_id.removeprefix("file-")])

    response = await sluice.post("/v1/chat/completions", {"model": "public", **about(file_id)}, headers=user)

    assert (response.status, (await response.json())["error"]["code"]) == (410, "file_gone")
