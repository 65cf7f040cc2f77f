"""The operations of the facades, fuzzed from our reference and from the vendor's own description: no 5xx."""

import asyncio
import copy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from shared.dialects import MOUNTS
from tests.inflection import description
from tests.installation import Installation
from tests.people import key_of

EXAMPLES = 15
"""Per operation and mode; the whole file takes about a minute."""
TIMEOUT_S = 30
OURS: list[Any] = [
    checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance,
]  # fmt: skip
THEIRS: list[Any] = [checks.not_a_server_error, checks.response_schema_conformance]
MODELS = {"model": "simulator", "config": "simulator"}
each_mode = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)


@each_mode
@pytest.mark.parametrize("tag", ["Inflection", "Vultr: subscriptions", "Vultr: conversations"])
async def test_answers_are_those_of_the_reference(sluice: Installation, tag: str, mode: GenerationMode) -> None:
    callers = [sluice.headers, await key_of(sluice, 2)]
    schema = (await asyncio.to_thread(schemathesis.openapi.from_dict, await reference_of(sluice))).include(tag=tag)
    if mode is GenerationMode.NEGATIVE:  # nothing of a request without parameters can be wrong
        schema = schema.exclude(path="/v1/discovery/configs")

    assert await asyncio.to_thread(fuzz, schema, sluice.url, mode, callers, OURS) > 3


@each_mode
@pytest.mark.parametrize("mount", MOUNTS)
async def test_shared_routes_answer_as_declared_under_each_mount(
    sluice: Installation, mount: str, mode: GenerationMode
) -> None:
    callers = [sluice.headers]
    schema = await asyncio.to_thread(schemathesis.openapi.from_dict, await reference_of(sluice))
    chosen = schema.include(path_regex="^/v1/(chat/completions|embeddings|models|usage|requests|health)$")

    assert await asyncio.to_thread(fuzz, chosen, f"{sluice.url}/{mount}", mode, callers, OURS) > 5


@each_mode
async def test_requests_of_the_vendors_description_are_understood(sluice: Installation, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(without_events(description())).include(method="POST")

    assert await asyncio.to_thread(fuzz, schema, f"{sluice.url}/inflection", mode, [sluice.headers], THEIRS) == 6


async def reference_of(sluice: Installation) -> Any:
    """Return the reference; where it is served is said by the test."""
    reference = await (await sluice.client.get("/openapi.json")).json()
    del reference["servers"]
    return await asyncio.to_thread(without_events, reference)  # it is large, and the loop also serves


def without_events(reference: Any) -> Any:
    """Return a reference that says nothing of single events: other tests read streams."""
    found = copy.deepcopy(reference)
    for verbs in found["paths"].values():
        for operation in verbs.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "anyOf" in body:
                body.pop("$ref", None)  # the vendor's names a schema that is not there
            for response in operation["responses"].values():
                if "text/event-stream" in response.get("content", {}):
                    response["content"]["text/event-stream"] = {"schema": {}}
    return found


def fuzz(schema: Any, url: str, mode: GenerationMode, callers: list[dict[str, str]], held: list[Any]) -> int:
    """Call the operations, and fail at the first answer that breaks a check; returns their number."""
    schema.config.update(base_url=url)
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        try_out(operation, mode, callers, held)
    return len(operations)


def try_out(operation: Any, mode: GenerationMode, callers: list[dict[str, str]], held: list[Any]) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), caller=st.sampled_from(callers), is_named=st.booleans())
    def call(case: Any, caller: dict[str, str], is_named: bool) -> None:
        if is_named and isinstance(case.body, dict):
            case.body |= {name: value for name, value in MODELS.items() if name in case.body or name == "model"}
            case.body.pop("simulator", None)
        response = case.call(headers=caller, timeout=TIMEOUT_S)
        case.validate_response(response, checks=held)

    call()
