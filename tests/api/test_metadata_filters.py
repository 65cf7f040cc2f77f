"""`metadata[key]=value` finds what has that pair, whatever the key; a broken statement is no outage."""

from typing import Final

import pytest
from sqlalchemy import text

from tests.installation import Installation

CHAT: Final = "/v1/chat/completions"
KEYS: Final = ("plain", 'a"b', 'a\\"b', "a\\", "a.b", "$[0]", "a]b", "it's", "100%", "é😀")


@pytest.mark.parametrize("path", ["/v1/jobs", CHAT, "/v1/request_logs"])
async def test_any_key_that_may_be_stored_can_be_asked_for(both: Installation, path: str) -> None:
    made = [(await both.chat(metadata={key: "v"})).headers["x-job-id"] for key in KEYS]

    found = [await found_jobs(both, path, key, "v") for key in KEYS]
    others = [await found_jobs(both, path, key, "w") for key in KEYS]

    assert found == [[job_id.removeprefix("job_")] for job_id in made]
    assert others == [[] for _ in KEYS]


async def found_jobs(installation: Installation, path: str, key: str, value: str) -> list[str]:
    """Return the bare ids of the jobs that a listing finds by one pair."""
    answer = await installation.get(path, params={f"metadata[{key}]": value})
    assert answer.status == 200, await answer.text()
    rows = (await answer.json())["data"]
    return [row.get("job_id", row["id"]).partition("_")[2] or row["id"].partition("-")[2] for row in rows]


async def test_a_statement_that_never_works_is_no_outage(both: Installation) -> None:
    async with both.state.database.transaction() as session:
        await session.exec(text("DROP TABLE audit_events"))  # type: ignore[call-overload]

    answer = await both.get("/v1/admin/audit")

    assert answer.status == 500
    assert "retry-after" not in answer.headers
    assert (await answer.json())["error"]["code"] == "internal_error"
