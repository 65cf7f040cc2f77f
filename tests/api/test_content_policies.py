"""What an administrator sees of the jobs of an organization that keeps its content to itself."""

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
    await changed(sluice, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    assert await statuses(sluice.headers) == {403}, "it was sent under the other policy"
    job = (await sluice.chat(headers=owner, store=True)).headers["x-job-id"]
    assert await statuses(sluice.headers) == {200}
