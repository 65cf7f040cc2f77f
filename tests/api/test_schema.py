"""The operations of governance, fuzzed from the reference: no 5xx, and nothing but what the reference declares."""

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from tests.installation import Installation
from tests.people import ORGANIZATIONS, ROLES, add_user, create, key_of

TAGS = (
    "Admin: audit", "Admin: organizations", "Admin: providers", "Admin: roles", "Admin: routers", "Admin: tokens",
    "Admin: users", "Auth", "Me", "Collections", "Search", "Vector store",
)  # fmt: skip
EXAMPLES = 10
"""Per operation and mode; the whole file takes about half a minute."""
TIMEOUT_S = 20
NAMES = {"role", "organization", "user", "router", "router_id"}
"""Members of bodies that name something else."""
CHECKS: list[Any] = [
    checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance,
]  # fmt: skip


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("tag", TAGS)
async def test_answers_are_those_of_the_reference(sluice: Installation, tag: str, mode: GenerationMode) -> None:
    role = await create(sluice, ROLES, name="r", limits=[{"router": 1, "type": "rpm", "value": 5}])
    tenant = await create(sluice, ORGANIZATIONS, name="o")
    user = await add_user(sluice, "someone@example.com", role=role["id"], organization=tenant["id"])
    callers = [sluice.headers, sluice.headers, await key_of(sluice, user["id"])]
    reference = await (await sluice.client.get("/openapi.json")).json()

    found = await asyncio.to_thread(fuzz, reference, sluice.url, tag, mode, callers)

    assert found > 0


def fuzz(reference: Any, url: str, tag: str, mode: GenerationMode, callers: list[dict[str, str]]) -> int:
    """Call the operations of a tag, and fail at the first answer that is not declared; returns their number."""
    schema = schemathesis.openapi.from_dict(reference).include(tag=tag)
    schema.config.update(base_url=url)
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        try_out(operation, mode, callers)
    return len(operations)


def try_out(operation: Any, mode: GenerationMode, callers: list[dict[str, str]]) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), caller=st.sampled_from(callers), number=st.integers(0, 3))
    def call(case: Any, caller: dict[str, str], number: int) -> None:
        if number:  # something that is there
            case.path_parameters = dict.fromkeys(case.path_parameters, number)
            if isinstance(case.body, dict):
                case.body |= dict.fromkeys(NAMES & case.body.keys(), number)
        response = case.call(headers=caller, timeout=TIMEOUT_S)
        case.validate_response(response, checks=CHECKS)

    call()
