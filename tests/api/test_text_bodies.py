"""Bodies of embeddings, rerank and completions that no caller should send: refused as they should be, never a 500."""

from typing import Any

import pytest

from shared.jobs.schemas import TERMINAL
from shared.jobs.tables import JobRow
from tests.installation import Installation
from tests.people import add_user, key_of

DEEP = 10_000
HUGE = str(2**70)
NESTED = "[" * DEEP + "]" * DEEP
BODIES = {
    "/v1/embeddings": '{"model":"simulator-embedding","input":%s%s}',
    "/v1/completions": '{"model":"simulator","prompt":%s%s}',
    "/v1/rerank": '{"model":"simulator-rerank","query":"x","documents":["a",%s]%s}',
}
each_route = pytest.mark.parametrize("route", BODIES)


async def post(sluice: Installation, route: str, value: str, rest: str = "") -> Any:
    headers = sluice.headers | {"Content-Type": "application/json"}
    return await sluice.client.post(route, data=BODIES[route] % (value, rest), headers=headers)


@each_route
async def test_values_of_another_type_are_refused(sluice: Installation, route: str) -> None:
    values = ["null", "{}", "true", "1.5", "-1", "NaN", '"\\ud800"', NESTED, "[[[1]]]", f"[{HUGE}]", "[1e400]", '"', ""]

    statuses = [(await post(sluice, route, value)).status for value in values]

    assert set(statuses) <= {400, 422}
    assert await sluice.rows(JobRow) == []


@each_route
async def test_members_that_are_passed_on_may_hold_anything_that_is_json(sluice: Installation, route: str) -> None:
    members = [',"other":1e400', f',"other":{HUGE}', ',"other":"\\u0000"', ',"other":' + "[" * 200 + "]" * 200]

    statuses = [(await post(sluice, route, '"a\\u0000b <|endoftext|>"', member)).status for member in members]
    deep = await post(sluice, route, '"a"', f',"other":{NESTED}')

    assert statuses == [200] * len(members)
    assert deep.status == 400
    assert {job.status for job in await sluice.rows(JobRow)} <= TERMINAL


@each_route
async def test_a_member_that_repeats_is_read_the_same_everywhere(sluice: Installation, route: str) -> None:
    response = await post(sluice, route, '"a"', ',"model":"nobody-serves-this"')

    assert response.status == 404
    assert await sluice.rows(JobRow) == []


@each_route
async def test_what_is_sent_is_paid_from_the_budget(both: Installation, route: str) -> None:
    types = {"/v1/embeddings": "text-embeddings-inference", "/v1/rerank": "text-classification"}
    await both.add_model("paid", router_type=types.get(route, "text-generation"), prices=(1, 1))
    user = await add_user(both, "payer@example.com", budget=0.000_05)
    me = await key_of(both, user["id"])
    texts = ["one two"] * 10
    body = {"model": "paid", "input": texts, "prompt": texts, "query": "one", "documents": texts}

    answers = [await both.post(route, body | {"simulator": {"tokens": 2}}, headers=me) for _ in range(4)]

    bodies = [await answer.json() for answer in answers]
    paid = [answer["usage"] for answer in bodies if "usage" in answer]
    assert [answer.status for answer in answers] == sorted(answer.status for answer in answers)
    assert (answers[0].status, answers[-1].status, bodies[-1]["error"]["code"]) == (200, 400, "insufficient_budget")
    assert round(sum(usage["cost"] for usage in paid) * 10**6) == 50
