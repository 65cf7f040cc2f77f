"""Names in usage reports: those of today, beside the ids that the ledger keeps."""

import csv
import io
from typing import Any

from shared.usage.schemas import MICRO
from shared.usage.tables import ChargeRow
from tests.installation import Installation
from tests.people import ORGANIZATIONS, PROVIDERS, TOKENS, USERS, add_user, bearer, changed, create, read

ALL = "/v1/admin/usage/report"
EVERYTHING = f"{ALL}?period=total&group_by=organization&group_by=user&group_by=key"
NAMES = ("organization_name", "user_email", "key_name", "provider_name")


async def use(installation: Installation, email: str = "one@example.com", **members: Any) -> tuple[int, int]:
    """Have a new user chat with a model that costs; returns the ids of the user and of his key."""
    user = await add_user(installation, email, **members)
    key = await create(installation, TOKENS, name="laptop", user=user["id"])
    answer = await installation.chat(model="paid", headers=bearer(key["key"]), simulator={"tokens": 7})
    assert answer.status == 200
    return user["id"], key["id"]


async def test_lines_have_names_beside_their_ids(both: Installation) -> None:
    await both.add_model("paid", prices=(1.37, 2.61))
    organization = (await create(both, ORGANIZATIONS, name="o"))["id"]
    user, key = await use(both, organization=organization)

    (line,) = (await read(both, EVERYTHING))["data"]
    found = await read(both, f"{ALL}?period=total&group_by=provider")

    assert [line[name] for name in ("organization_id", "user_id", "key_id", "provider_id")] == [
        organization, user, key, None,
    ]  # fmt: skip
    assert [line[name] for name in NAMES] == ["o", "one@example.com", "laptop", None]
    assert [found["total"][name] for name in NAMES] == [None] * 4
    (of_provider,) = found["data"]
    provider = await read(both, f"{PROVIDERS}/{of_provider['provider_id']}")
    assert [of_provider[name] for name in NAMES] == [None, None, None, provider["model_name"]]


async def test_names_are_those_of_today_and_sums_those_of_the_ledger(both: Installation) -> None:
    await both.add_model("paid", prices=(1.37, 2.61))
    first, _ = await use(both)
    gone, _ = await use(both, "gone@example.com")
    assert (await both.chat(model="paid", simulator={"tokens": 9})).status == 200  # of the master, who has no row
    await changed(both, f"{USERS}/{first}", {"email": "renamed@example.com"})
    assert (await both.delete(f"{USERS}/{gone}")).status == 204

    found = await read(both, EVERYTHING)

    names = {line["user_id"]: (line["user_email"], line["key_name"]) for line in found["data"]}
    assert names == {first: ("renamed@example.com", "laptop"), gone: (None, None), 0: ("master", None)}
    charges = await both.rows(ChargeRow)
    assert len(charges) == 3
    assert sum(round(line["charge"] * MICRO) for line in found["data"]) == sum(one.amount_micros for one in charges)


async def test_names_are_further_columns_at_the_end_of_csv(sluice: Installation) -> None:
    await sluice.add_model("paid", prices=(1.37, 2.61))
    organization = (await create(sluice, ORGANIZATIONS, name="=1+1"))["id"]
    await use(sluice, organization=organization)

    response = await sluice.get(EVERYTHING, headers={"Accept": "text/csv"})

    rows = list(csv.DictReader(io.StringIO(await response.text())))
    assert tuple(rows[0])[-5:] == ("sources_none", *NAMES)
    assert [rows[0][name] for name in NAMES] == ["'=1+1", "one@example.com", "laptop", ""]


async def test_many_groups_have_their_names(both: Installation) -> None:
    await both.add_model("paid")
    user, _ = await use(both)
    keys = [(await create(both, TOKENS, name=f"k{number}", user=user))["id"] for number in range(3)]
    (charge,) = await both.rows(ChargeRow)
    async with both.state.database.transaction() as session:
        for number in [*keys, *range(10_000, 11_000)]:  # more than are asked for at once, most of them gone
            session.add(ChargeRow(**charge.model_dump() | {"job_id": f"{number:026}", "key_id": number}))

    lines = (await read(both, f"{ALL}?period=total&group_by=key"))["data"]

    assert len(lines) == 1004
    assert sorted(line["key_name"] for line in lines if line["key_name"]) == ["k0", "k1", "k2", "laptop"]
