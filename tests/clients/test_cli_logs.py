"""scripts/sluice admin logs and webhooks: what operators look for, without a browser."""

from tests.clients.test_cli_admin import read, run, sluice_cli
from tests.installation import Installation
from tests.people import add_user, key_of
from tests.receivers import Receiver, says
from tests.webhooks import add_endpoint, until


async def test_the_log_is_read_by_names_and_times(sluice: Installation) -> None:
    owner = await key_of(sluice, (await add_user(sluice, "ada@example.com"))["id"], name="laptop")
    await sluice.chat("Secret?", headers=owner)
    await sluice.chat(simulator={"fail": "400"})

    (row,) = await read(sluice, "logs", "--user", "ada@example.com", "--status", "completed", "--since", "2026-01-01")
    table = (await run(sluice, "logs", "--key-name", "laptop")).splitlines()
    failed = await read(sluice, "logs", "--status", "failed", "--status", "refused", "--http-status", "400")
    one = await run(sluice, "logs", row["id"])

    assert (row["user_email"], row["key_name"]) == ("ada@example.com", "laptop")
    assert row["id"] in table[1]
    assert len(table) == 2
    assert [other["status"] for other in failed] == ["failed"]
    assert "Secret?" in one
    assert await read(sluice, "logs", "--until", "2026-01-01T12:30") == []


async def test_impossible_questions_are_answered_in_a_line(sluice: Installation) -> None:
    for arguments, text in (
        (("--user", "nobody@example.com"), "No user has this name"),
        (("--since", "yesterday"), "`yesterday` is no time"),
        (("--http-status", "often"), "422"),
    ):
        code, output, errors = await sluice_cli(sluice, "admin", "logs", *arguments)
        assert (code, output, len(errors.splitlines())) == (1, "", 1)
        assert text in errors


async def test_what_became_of_a_delivery_is_seen_and_sent_again(told: Installation, receiver: Receiver) -> None:
    receiver.script = [says(410)]
    endpoint = await add_endpoint(told, receiver, "job.completed")
    await told.chat()
    await until(told, endpoint, "aborted", "exhausted", "paused", "failed")

    listed = await read(told, "webhooks", "list")
    table = await run(told, "webhooks", "deliveries", endpoint["id"])
    (delivery,) = await read(told, "webhooks", "deliveries", endpoint["id"])
    shown = await read(told, "webhooks", "show", delivery["id"])
    enabled = await run(told, "webhooks", "enable", endpoint["id"])
    again = await run(told, "webhooks", "redeliver", delivery["id"])
    await until(told, endpoint, "delivered")
    disabled = await run(told, "webhooks", "disable", endpoint["id"])

    assert [one["id"] for one in listed] == [endpoint["id"]]
    assert " 410 " in table
    assert "job.completed" in shown["request_body"]
    assert (enabled, disabled) == (f"{endpoint['id']} enabled\n", f"{endpoint['id']} disabled\n")
    assert again.startswith(delivery["id"])
