"""What nobody knows in a body of the administration is refused, so that a typing error does not pass for a change."""

from typing import Any

import pytest

from tests.installation import Installation
from tests.people import AUDIT, ORGANIZATIONS, PASSWORD, PROVIDERS, ROLES, ROUTERS, TOKENS, USERS, create, read

MADE: list[tuple[str, dict[str, Any], str]] = [
    (ORGANIZATIONS, {"name": "typo"}, "budgett"),
    (ROLES, {"name": "typo"}, "permisions"),
    (USERS, {"email": "typo@example.com", "password": PASSWORD, "role": 2}, "expires_at"),
    (ROUTERS, {"name": "typo", "type": "text-generation"}, "cost_prompt_token"),
    (PROVIDERS, {"router": 1, "type": "simulator", "model_name": "typo", "probe": False}, "pue_"),
    (TOKENS, {"name": "typo", "user": 2}, "scope"),
]


@pytest.mark.parametrize(("path", "body", "member"), MADE)
async def test_nothing_is_made_with_a_member_that_nobody_knows(
    sluice: Installation, path: str, body: dict[str, Any], member: str
) -> None:
    before = (await read(sluice, path))["total"]

    response = await sluice.post(path, body | {member: 1})

    assert await _issue(response) == (422, ["body"], f"Object contains unknown field `{member}`")
    assert (await read(sluice, path))["total"] == before
    assert (await sluice.post(path, body)).status == 201


@pytest.mark.parametrize("noun", [ORGANIZATIONS, ROLES, USERS, ROUTERS, PROVIDERS])
async def test_nothing_is_changed_with_a_member_that_nobody_knows(sluice: Installation, noun: str) -> None:
    if noun == ORGANIZATIONS:
        await create(sluice, ORGANIZATIONS, name="o")
    path = f"{noun}/{(await read(sluice, noun))['data'][-1]['id']}"
    before, events = await read(sluice, path), (await read(sluice, AUDIT))["total"]

    response = await sluice.patch(path, {"content_polcy": "none"})

    assert await _issue(response) == (422, ["body"], "Object contains unknown field `content_polcy`")
    assert (await read(sluice, path), (await read(sluice, AUDIT))["total"]) == (before, events)


async def test_a_limit_has_no_other_members(sluice: Installation) -> None:
    body = {"name": "typo", "limits": [{"router": 1, "type": "rpm", "vlaue": 5}]}

    response = await sluice.post(ROLES, body)

    assert await _issue(response) == (422, ["body", "limits", 0], "Object contains unknown field `vlaue`")


async def _issue(response: Any) -> tuple[int, list[Any], str]:
    (issue,) = (await response.json())["detail"]
    return response.status, issue["loc"], issue["msg"]
