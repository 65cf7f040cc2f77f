"""scripts/sluice admin and login: administration without a browser."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import fields

from shared.keys.schemas import CreateTokenRequest
from shared.organizations.schemas import CreateOrganizationRequest, UpdateOrganizationRequest
from shared.providers.schemas import CreateProviderRequest, UpdateProviderRequest
from shared.roles.schemas import CreateRoleRequest, UpdateRoleRequest
from shared.routers.schemas import CreateRouterRequest, UpdateRouterRequest
from shared.users.schemas import CreateUserRequest, UpdateUserRequest
from tests.clients.test_cli import MAIN
from tests.installation import ADMIN_KEY, Installation
from tests.people import PASSWORD, bearer


async def sluice_cli(
    sluice: Installation, *arguments: str, key: str | None = ADMIN_KEY, answer: str = ""
) -> tuple[int, str, str]:
    """Run a command with this line as its input; returns exit code, output and errors."""
    given = () if key is None else ("--key", key)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(MAIN), "--url", f"{sluice.url}/v1", *given, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"SLUICE_DATA_DIR": "/nowhere"},
    )  # fmt: skip
    output, errors = await process.communicate(answer.encode())
    assert "Traceback" not in errors.decode()
    return process.returncode or 0, output.decode(), errors.decode()


async def run(sluice: Installation, *arguments: str, **options: Any) -> str:
    """Run an admin command that succeeds; returns its output."""
    code, output, errors = await sluice_cli(sluice, "admin", *arguments, **options)
    assert (code, errors) == (0, ""), errors
    return output


async def read(sluice: Installation, *arguments: str) -> Any:
    """Return what a command prints as JSON."""
    return json.loads(await run(sluice, *arguments, "--json"))


async def test_an_organization_with_people_is_set_up_by_names(sluice: Installation) -> None:
    made = await run(sluice, "organizations", "create", "--name", "acme", "--budget", "12.5")
    await run(sluice, "roles", "create", "--name", "developers", "--permissions", "read_metric")
    await run(sluice, "limits", "set", "developers", "simulator", "--rpm", "60", "--tpd", "none")
    user = await run(
        sluice, "users", "create", "--email", "dev@example.com", "--password", "-", "--role", "developers",
        "--organization", "acme", "--expires", "2099-01-01", answer=PASSWORD + "\n",
    )  # fmt: skip
    key = (
        await run(sluice, "keys", "create", "--name", "laptop", "--user", "dev@example.com", "--scopes", "inference")
    ).splitlines()

    assert (made, user) == ("organization 2 created\n", "user 3 created\n")
    assert key[0].startswith("key ")
    found = await read(sluice, "users", "show", "dev@example.com")
    assert (found["role"], found["organization"], found["expires"]) == (3, 2, 4070908800)
    assert (await read(sluice, "organizations", "show", "acme"))["budget"] == 12.5
    (role,) = [one for one in await read(sluice, "roles", "list") if one["name"] == "developers"]
    assert {(one["type"], one["value"]) for one in role["limits"]} == {("rpm", 60), ("tpd", None)}
    assert (await sluice.chat(headers=bearer(key[1]))).status == 200
    (listed,) = await read(sluice, "keys", "list", "--user", "dev@example.com")
    assert (listed["name"], listed["scopes"]) == ("laptop", ["inference"])


async def test_a_model_is_added_priced_changed_and_removed(sluice: Installation) -> None:
    await run(
        sluice, "routers", "create", "--name", "llama", "--type", "text-generation", "--cost-prompt-tokens", "0.6",
        "--aliases", "llama-70b, big",
    )  # fmt: skip
    await run(
        sluice, "providers", "create", "--router", "llama", "--type", "simulator", "--model-name", "inner",
        "--qos-metric", "inflight", "--qos-limit", "8", "--probe", "false",
    )  # fmt: skip
    updated = await run(sluice, "routers", "update", "big", "--cost-completion-tokens", "0.8", "--cache-ttl", "60")
    await run(sluice, "routers", "update", "llama", "--aliases", "none", "--cache-ttl", "none")
    await run(sluice, "providers", "update", "inner", "--qos-metric", "none", "--weight", "2.5", "--pue", "1.1")

    assert updated == "router 7 updated\n"
    router = await read(sluice, "routers", "show", "llama")
    assert (router["cost_prompt_tokens"], router["cost_completion_tokens"]) == (0.6, 0.8)
    assert (router["aliases"], router["cache_ttl"]) == ([], None)
    (provider,) = await read(sluice, "providers", "list", "--router", "llama")
    assert (provider["qos_metric"], provider["qos_limit"], provider["weight"]) == (None, None, 2.5)
    assert provider["pue"] == 1.1
    health = await read(sluice, "health", "llama")
    assert [one["status"] for one in health[0]["providers"]] == ["green"]
    assert await run(sluice, "providers", "delete", "inner", "--yes") == f"provider {provider['id']} deleted\n"
    assert json.loads(await run(sluice, "routers", "delete", "llama", "--yes", "--json")) == {"id": 7, "deleted": True}
    assert "llama" not in await run(sluice, "routers", "list")


async def test_limits_are_changed_one_model_at_a_time(sluice: Installation) -> None:
    before = await read(sluice, "limits", "list", "user")

    await run(sluice, "limits", "set", "user", "simulator", "--rpd", "5")
    with_day = await read(sluice, "limits", "list", "user")
    await run(sluice, "limits", "delete", "user", "simulator")
    without = await read(sluice, "limits", "list", "user")
    await run(sluice, "limits", "set", "user", "1")
    again = await read(sluice, "limits", "list", "user")

    assert {one["type"]: one["value"] for one in with_day if one["router"] == 1} == {"rpm": None, "rpd": 5}
    assert without == [one for one in before if one["router"] != 1]
    assert sorted(again, key=str) == sorted(before, key=str)


async def test_nothing_is_deleted_without_a_yes(sluice: Installation) -> None:
    await run(sluice, "organizations", "create", "--name", "acme")

    code, _, errors = await sluice_cli(sluice, "admin", "organizations", "delete", "acme")

    assert code == 1
    assert "Delete organization 2 (acme)?" in errors
    assert "--yes" in errors
    assert (await read(sluice, "organizations", "show", "acme"))["id"] == 2


@pytest.mark.parametrize(("typed", "code", "is_left"), [("n\n", 1, True), ("y\n", 0, False)])
async def test_whoever_sits_at_a_terminal_is_asked(
    sluice: Installation, typed: str, code: int, *, is_left: bool
) -> None:
    await run(sluice, "organizations", "create", "--name", "acme")
    terminal, inner = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(MAIN), "--url", f"{sluice.url}/v1", "--key", ADMIN_KEY, "admin", "organizations", "delete",
        "acme", stdin=inner, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(inner)
    os.write(terminal, typed.encode())

    await process.communicate()
    os.close(terminal)

    assert process.returncode == code
    assert ("acme" in await run(sluice, "organizations", "list")) is is_left


async def test_a_login_gives_a_key_for_the_other_commands(sluice: Installation) -> None:
    await run(
        sluice, "users", "create", "--email", "boss@example.com", "--password", "-", "--role", "admin",
        answer=PASSWORD + "\n",
    )  # fmt: skip

    code, key, _ = await sluice_cli(sluice, "login", "boss@example.com", key=None, answer=PASSWORD + "\n")
    refused, _, errors = await sluice_cli(sluice, "login", "boss@example.com", key=None, answer="wrong\n")
    _, listed, _ = await sluice_cli(sluice, "admin", "users", "list", key=key.strip())

    assert (code, refused) == (0, 1)
    assert errors.startswith("401: ")
    assert "boss@example.com" in listed


async def test_usage_health_and_audit_are_told(sluice: Installation) -> None:
    await (await sluice.chat(simulator={"tokens": 7})).read()
    await run(sluice, "organizations", "create", "--name", "acme")

    usage = await read(sluice, "usage", "--by", "model")
    table = await run(sluice, "usage", "--by", "model", "--by", "user")
    health = await run(sluice, "health")
    audit = await read(sluice, "audit", "--object-type", "organization")

    assert [(line["model"], line["completion_tokens"]) for line in usage["data"]] == [("simulator", 7)]
    assert [line.split()[0] for line in table.splitlines()] == ["period", "-", "sum"]
    assert "simulator-embedding" in health
    assert [one["action"] for one in audit] == ["organization.create"]
    assert "organization.create" in await run(sluice, "audit")


async def test_subscriptions_are_made_shown_and_deleted(sluice: Installation) -> None:
    key = (await run(sluice, "keys", "create", "--name", "k", "--user", "1")).splitlines()[1]

    made = (await run(sluice, "subscriptions", "create", "--label", "mine", key=key)).splitlines()
    number = made[0].split()[1]
    changed = await run(sluice, "subscriptions", "update", number, "--label", "ours", key=key)
    (listed,) = await read(sluice, "subscriptions", "list")
    shown = await read(sluice, "subscriptions", "show", number)
    answer = await sluice.chat(headers=bearer(made[1]))
    usage = await read(sluice, "subscriptions", "usage", number)
    refused, _, errors = await sluice_cli(sluice, "admin", "subscriptions", "delete", number)
    deleted = await run(sluice, "subscriptions", "delete", number, "--yes")

    assert changed == f"subscription {number} updated\n"
    assert (listed["label"], "api_key" in listed, shown["label"]) == ("ours", False, "ours")
    assert answer.status == 200
    assert usage["chat"]
    assert (refused, f"Delete subscription {number} (ours)?" in errors) == (1, True)
    assert deleted == f"subscription {number} deleted\n"
    assert await read(sluice, "subscriptions", "list") == []


async def test_a_list_tells_how_much_it_leaves_out(sluice: Installation) -> None:
    for number in range(3):
        await run(sluice, "organizations", "create", "--name", f"o{number}")

    code, output, errors = await sluice_cli(sluice, "admin", "organizations", "list", "--limit", "2")

    assert code == 0
    assert [line.split()[1] for line in output.splitlines()] == ["name", "default", "o0"]
    assert "2 of 4 organizations" in errors


async def test_a_table_shows_names_as_they_are(sluice: Installation) -> None:
    await run(sluice, "organizations", "create", "--name", "[red]a[/red] :smile:")

    assert "[red]a[/red] :smile:" in await run(sluice, "organizations", "list")
    assert "[red]a[/red] :smile:" in await run(sluice, "organizations", "show", "2")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("users", "show", "99"), 1, "404: "),
        (("users", "show", "nobody@example.com"), 1, "404: "),
        (("roles", "show", "nobody"), 1, "No role is called `nobody`."),
        (("roles", "show", "²"), 1, "No role is called `²`."),
        (("limits", "set", "user", "simulator", "--rpm", "²"), 1, "--rpm: `²` is no number."),
        (("organizations", "create"), 2, "--name"),
        (("organizations", "create", "--name", "default"), 1, "409: "),
        (("organizations", "create", "--name", "a", "--budget", "much"), 1, "--budget: `much` is no number."),
        (("organizations", "create", "--name", "a", "--log-days", "0"), 1, "422: "),
        (("organizations", "update", "1"), 1, "Nothing to change"),
        (("users", "update", "2", "--name", "none"), 1, "--name: it can be changed, but not taken away."),
        (("providers", "update", "1", "--url", "none"), 1, "--url: it can be changed, but not taken away."),
        (("users", "update", "1", "--expires", "soon"), 1, "--expires: `soon` is no time."),
        (("routers", "update", "1", "--accepts-token-ids", "maybe"), 1, "`maybe` is no true or false."),
        (("routers", "create", "--name", "a", "--type", "magic"), 2, "invalid choice"),
        (("keys", "update", "1"), 2, "invalid choice"),
        (("limits", "set", "user", "simulator", "--rpm", "many"), 1, "--rpm: `many` is no number."),
        (("limits", "delete", "user", "99"), 1, "Role 2 has no limits on router 99."),
        (("organizations", "delete", "default", "--yes"), 1, "409: "),
    ],
)
async def test_mistakes_are_told_in_a_line(
    sluice: Installation, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, output, errors = await sluice_cli(sluice, "admin", *arguments)

    assert (found, output) == (code, "")
    assert message in errors


async def test_who_may_not_administer_is_told_so(sluice: Installation) -> None:
    key = await run(sluice, "keys", "create", "--name", "k", "--user", "2")

    code, _, errors = await sluice_cli(sluice, "admin", "users", "list", key=key.splitlines()[1])

    assert (code, errors[:5]) == (1, "403: ")


_SPELLINGS = {"router_id", "current_password", "limits"}
"""Members that have another name here, or a command of their own."""


@pytest.mark.parametrize(
    ("noun", "create", "update"),
    [
        ("organizations", CreateOrganizationRequest, UpdateOrganizationRequest),
        ("roles", CreateRoleRequest, UpdateRoleRequest),
        ("users", CreateUserRequest, UpdateUserRequest),
        ("keys", CreateTokenRequest, None),
        ("routers", CreateRouterRequest, UpdateRouterRequest),
        ("providers", CreateProviderRequest, UpdateProviderRequest),
    ],
)
def test_every_member_of_the_api_is_an_option(
    noun: str, create: Any, update: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(MAIN.parent))
    import nouns  # noqa: PLC0415  # a module of the program

    members = nouns.NOUNS[noun].members
    assert {one.name for one in members if one.on != "update"} == set(create.__struct_fields__) - _SPELLINGS
    if update is not None:
        assert {one.name for one in members if one.on != "create"} == set(update.__struct_fields__) - _SPELLINGS


@pytest.mark.parametrize(
    ("noun", "update"),
    [
        ("organizations", UpdateOrganizationRequest),
        ("roles", UpdateRoleRequest),
        ("users", UpdateUserRequest),
        ("routers", UpdateRouterRequest),
        ("providers", UpdateProviderRequest),
    ],
)
def test_none_is_refused_where_null_would_change_nothing(
    noun: str, update: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(MAIN.parent))
    import nouns  # noqa: PLC0415  # a module of the program

    members = [one for one in nouns.NOUNS[noun].members if one.on != "create" and one.none is None]
    refused = {one.name for one in members if one.needed or one.stays}
    cleared_by_null = {one.name for one in fields(update) if one.default is UNSET}
    assert refused == {one.name for one in members} - cleared_by_null
