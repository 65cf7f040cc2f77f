"""Errors as RFC 9457 has them, for who asks for that."""

from typing import Any

import pytest

from tests.installation import Installation

PROBLEM = "application/problem+json"
CHAT = "/v1/chat/completions"


async def failed(sluice: Installation, accept: str, path: str = CHAT) -> tuple[Any, dict[str, Any]]:
    response = await sluice.post(path, {"model": "simulator", "messages": 7}, headers={"Accept": accept})
    return response, await response.json(content_type=None)


@pytest.mark.parametrize("accept", [PROBLEM, f"application/json, {PROBLEM}", f"text/event-stream, {PROBLEM};q=0.5"])
async def test_who_asks_for_a_problem_gets_one_in_the_same_body(sluice: Installation, accept: str) -> None:
    usual = (await failed(sluice, "*/*"))[1]

    response, problem = await failed(sluice, accept)

    assert (response.status, response.headers["Content-Type"]) == (422, PROBLEM)
    added = {name: problem.pop(name) for name in ("type", "title", "status", "instance")}
    assert problem == usual
    assert added == {
        "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
        "instance": f"{CHAT}#{response.headers['x-request-id']}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "path"),
    [
        ("*/*", CHAT), ("application/*", CHAT), (f"application/json, {PROBLEM};q=0.9", CHAT),
        (f"*/*, {PROBLEM};q=0", CHAT),
        (PROBLEM, "/vultr" + CHAT), (PROBLEM, "/nec" + CHAT), (PROBLEM, "/inflection" + CHAT),
    ],
)  # fmt: skip
async def test_nobody_else_does(sluice: Installation, accept: str, path: str) -> None:
    response, body = await failed(sluice, accept, path)

    assert response.headers["Content-Type"].partition(";")[0] == "application/json"
    assert "instance" not in body


async def test_what_has_no_route_and_no_key_is_a_problem_too(sluice: Installation) -> None:
    headers = {"Accept": PROBLEM}
    missing = await sluice.client.get("/nowhere/é", headers=headers)
    keyless = await sluice.client.get("/v1/jobs", headers=headers)

    found = [(await response.json(content_type=PROBLEM))["title"] for response in (missing, keyless)]

    assert found == ["Not Found", "Unauthorized"]
