"""Rating a chat completion."""

import pytest

from tests.installation import Installation

PATH = "/v1/chat/completions"


@pytest.mark.parametrize("suffix", ["", "/rate"])
async def test_a_vote_is_stored_replaced_and_taken_back(both: Installation, suffix: str) -> None:
    completion = (await (await both.chat()).json())["id"]

    for vote, stored in (("up", "up"), ("DOWN", "down"), (None, None)):
        answer = await both.post(f"{PATH}/{completion}{suffix}", {"vote": vote})
        assert (answer.status, await answer.read()) == (204, b"")
        assert (await (await both.get(f"{PATH}/{completion}")).json())["vote"] == stored


async def test_a_vote_with_metadata_answers_with_the_completion(sluice: Installation) -> None:
    completion = (await (await sluice.chat(metadata={"a": "1"})).json())["id"]

    answer = await (await sluice.post(f"{PATH}/{completion}", {"vote": "up", "metadata": {"b": "2"}})).json()

    assert (answer["id"], answer["vote"], answer["metadata"]) == (completion, "up", {"b": "2"})


@pytest.mark.parametrize("body", [{"vote": "sideways"}, {}, {"vote": 1}])
async def test_anything_else_is_refused(sluice: Installation, body: dict) -> None:
    completion = (await (await sluice.chat()).json())["id"]
    assert (await sluice.post(f"{PATH}/{completion}", body)).status == 422


async def test_only_a_finished_answer_is_rated(sluice: Installation) -> None:
    running = await sluice.chat(simulator={"delay_ms": 5000}, headers={"Prefer": "respond-async"})
    failed = await sluice.chat(simulator={"fail": "400"})

    for response, code in ((running, "job_not_finished"), (failed, "job_failed")):
        answer = await sluice.post(f"{PATH}/{response.headers['x-job-id']}", {"vote": "up"})
        assert (answer.status, (await answer.json())["error"]["code"]) == (409, code)
    await sluice.post(f"/v1/jobs/{running.headers['x-job-id']}/cancel")
