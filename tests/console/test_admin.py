"""The administration: what a new tenant needs, made by hand in the console."""

from typing import Any

import pytest
from playwright.async_api import Locator, expect

from tests.console.visits import Visit
from tests.installation import ADMIN_KEY
from tests.people import bearer

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _create(visit: Visit, page: str, noun: str, fields: dict[str, str], options: dict[str, str]) -> None:
    await visit.open(page)
    await visit.page.get_by_role("button", name=f"New {noun}").first.click()
    dialog = visit.page.get_by_role("dialog")
    for label, value in fields.items():
        await dialog.get_by_label(label, exact=True).or_(dialog.get_by_label(f"{label} (required)")).fill(value)
    for label, text in options.items():
        await dialog.get_by_label(label, exact=True).or_(dialog.get_by_label(f"{label} (required)")).select_option(text)
    await dialog.get_by_role("button", name="Create").click()


async def _new_user(visit: Visit, person: dict[str, str], options: dict[str, str]) -> Locator:
    """Create a user and return the row, on whichever page: all tests share one installation."""
    await _create(visit, "users", "user", person, options)
    await expect(visit.page.get_by_role("dialog")).to_have_count(0)
    row, following = visit.row(person["Email"]), visit.page.get_by_role("button", name="Next", exact=True)
    while not await row.count() and await following.is_enabled():
        await following.click()
        await visit.page.wait_for_timeout(300)
    return row


async def test_everything_a_new_tenant_needs_is_made_by_hand(admin: Visit) -> None:
    page = admin.page
    await _create(admin, "organizations", "organization", {"Name": "Acme", "Budget": "100"}, {})
    await expect(admin.row("Acme")).to_contain_text("100.00")

    prices = {"Price of a million prompt tokens": "1", "Price of a million completion tokens": "2"}
    await _create(admin, "routers", "router", {"Name": "acme-model", **prices}, {"Type": "text-generation"})
    await expect(admin.row("acme-model")).to_contain_text("text-generation")

    await admin.open("providers")
    await _create(
        admin, "providers", "provider", {"Name of the model there": "acme-upstream"},
        {"Router": "acme-model", "Type": "simulator"},
    )  # fmt: skip
    await expect(admin.row("acme-upstream")).to_contain_text("green")

    await _create(admin, "roles", "role", {"Name": "acme-role", "Models and limits": "acme-model rpm 5"}, {})
    await expect(admin.row("acme-role")).to_contain_text("acme-model rpm 5")

    person = {"Email": "first@acme.example", "Password": "correct horse battery"}
    row = await _new_user(admin, person, {"Role": "acme-role", "Organization": "Acme"})
    await expect(row).to_contain_text("Acme")

    await _create(admin, "all-keys", "key", {"Name": "acme-key"}, {"User": "first@acme.example"})
    key = await page.get_by_label("Secret, shown this one time").input_value()
    await page.get_by_role("button", name="Done").click()
    await expect(admin.row("acme-key")).to_contain_text("first@acme.example")

    answer = await _chat(admin, key)
    assert answer.status == 200, await answer.text()
    await admin.open("audit")
    for action in ("organization.create", "router.create", "provider.create", "role.create", "user.create"):
        await expect(admin.row(action).first).to_be_visible()


async def _chat(visit: Visit, key: str) -> Any:
    body = {"model": "acme-model", "messages": [{"role": "user", "content": "Hello"}]}
    return await visit.sluice.client.post("/v1/chat/completions", json=body, headers=bearer(key))


async def test_a_change_sends_only_what_was_changed(admin: Visit) -> None:
    await _create(admin, "organizations", "organization", {"Name": "Changing", "Budget": "5"}, {})
    row = admin.row("Changing")

    await row.get_by_role("button", name="Edit").click()
    await admin.page.get_by_label("Budget", exact=True).fill("")
    await admin.page.get_by_label("Days the log is kept").fill("7")
    await admin.page.get_by_role("button", name="Save").click()

    await expect(row).to_contain_text("7 days")
    found = next(
        one for one in (await admin.get("/v1/admin/organizations", limit=100))["data"] if one["name"] == "Changing"
    )
    assert (found["budget"], found["log_days"], found["content_policy"]) == (None, 7, "full")
    event = (await admin.get("/v1/admin/audit", object_type="organization", object_id=found["id"]))["data"][0]
    assert event["action"] == "organization.update"


async def test_what_cannot_be_emptied_is_refused_in_the_form(admin: Visit) -> None:
    person = {"Email": "named@example.com", "Password": "correct horse battery", "Name": "Ada"}
    row = await _new_user(admin, person, {"Role": "user"})
    await row.get_by_role("button", name="Edit").click()
    dialog = admin.page.get_by_role("dialog")

    await dialog.get_by_label("Name", exact=True).fill("")
    await dialog.get_by_role("button", name="Save").click()

    await expect(dialog.get_by_role("alert")).to_contain_text("“Name” can be changed, but not emptied.")
    await dialog.get_by_label("Name", exact=True).fill("Ada L.")
    await dialog.get_by_role("button", name="Save").click()
    await expect(admin.row("named@example.com")).to_contain_text("Ada L.")


async def test_the_url_of_a_provider_is_not_emptied(admin: Visit) -> None:
    await admin.sluice.add_model("emptied", "http://127.0.0.1:9", model_name="emptied-upstream")
    await admin.open("providers")
    await admin.row("emptied-upstream").get_by_role("button", name="Edit").click()
    dialog = admin.page.get_by_role("dialog")

    await dialog.get_by_label("URL", exact=True).fill("")
    await dialog.get_by_role("button", name="Save").click()

    await expect(dialog.get_by_role("alert")).to_contain_text("“URL” can be changed, but not emptied.")


async def test_a_name_of_spaces_is_not_said_to_be_saved(admin: Visit) -> None:
    await _create(admin, "organizations", "organization", {"Name": "Blank"}, {})
    await admin.row("Blank").get_by_role("button", name="Edit").click()
    dialog = admin.page.get_by_role("dialog")

    await dialog.get_by_label("Name (required)").fill("  ")
    await dialog.get_by_role("button", name="Save").click()

    await expect(dialog.get_by_role("alert")).to_contain_text("“Name” can be changed, but not emptied.")


async def test_a_router_is_changed_and_nothing_else_of_it(admin: Visit) -> None:
    prices = {"Price of a million prompt tokens": "0.5", "Default parameters": '{"temperature": 0.7}'}
    await _create(admin, "routers", "router", {"Name": "changing-model", **prices}, {})
    row = admin.row("changing-model")

    await row.get_by_role("button", name="Edit").click()
    await expect(admin.page.get_by_label("Default parameters")).to_have_value('{"temperature":0.7}')
    await admin.page.get_by_label("Price of a million completion tokens").fill("1.25")
    await admin.page.get_by_role("button", name="Save").click()

    await expect(row).to_contain_text("1.25")
    event = (await admin.get("/v1/admin/audit", object_type="router", limit=1))["data"][0]
    before, after = event["before"], event["after"]
    assert event["action"] == "router.update"
    assert {name for name in after if after[name] != before[name]} - {"updated"} == {"cost_completion_tokens"}


async def test_a_provider_is_given_measurements_later(admin: Visit) -> None:
    await admin.open("providers")
    edit = admin.row("simulator-rerank").get_by_role("button", name="Edit")

    await edit.click()
    await admin.page.get_by_label("Joules per output token").fill("2.5")
    await admin.page.get_by_label("PUE of its data centre").fill("1.1")
    await admin.page.get_by_role("button", name="Save").click()
    await expect(admin.page.get_by_role("dialog")).to_have_count(0)
    await edit.click()
    await expect(admin.page.get_by_label("PUE of its data centre")).to_have_value("1.1")
    await admin.page.get_by_label("Joules per output token").fill("")
    await admin.page.get_by_role("button", name="Save").click()
    await expect(admin.page.get_by_role("dialog")).to_have_count(0)

    found = next(one for one in (await admin.get("/v1/admin/providers"))["data"] if one["pue"] is not None)
    assert (found["model_name"], found["pue"], found["joules_per_output_token"]) == ("simulator-rerank", 1.1, None)


async def test_a_deletion_is_asked_about_and_refused_in_words(admin: Visit) -> None:
    await admin.open("organizations")

    await admin.row("default").get_by_role("button", name="Delete").click()
    await admin.page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    await expect(admin.page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    await admin.page.keyboard.press("Escape")
    await expect(admin.row("default")).to_be_visible()


async def test_markup_in_names_is_text_on_every_page(admin: Visit) -> None:
    name = "<img src=x onerror=alert(1)><b id=trap>n</b>"
    await _create(admin, "organizations", "organization", {"Name": name}, {})
    await expect(admin.page.get_by_role("rowheader", name=name)).to_be_visible()
    await _create(admin, "roles", "role", {"Name": f"role {name}"}, {})
    await expect(admin.row(f"role {name}")).to_be_visible()
    person = {"Email": "trap@example.com", "Password": "correct horse battery", "Name": name}
    row = await _new_user(admin, person, {"Role": "user", "Organization": name})
    await expect(row).to_contain_text(name)
    await _create(admin, "all-keys", "key", {"Name": name}, {"User": "trap@example.com"})
    await expect(admin.page.get_by_role("dialog")).to_contain_text(name)
    await admin.page.get_by_role("button", name="Done").click()
    await admin.open("audit")
    await expect(admin.row("user.create").first).to_be_visible()

    assert await admin.page.locator("#trap, img, main script").count() == 0


async def test_own_keys_are_made_and_deleted(user: Visit) -> None:
    await _create(user, "keys", "key", {"Name": "laptop"}, {})
    key = await user.page.get_by_label("Secret, shown this one time").input_value()
    await user.page.get_by_role("button", name="Done").click()
    assert (await user.sluice.client.get("/v1/models", headers=bearer(key))).status == 200

    await user.row("laptop").get_by_role("button", name="Delete").click()
    await user.page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    await expect(user.row("laptop")).to_have_count(0)
    assert (await user.sluice.client.get("/v1/models", headers=bearer(key))).status == 401


async def test_the_administrators_key_has_no_keys_of_its_own(visit: Visit) -> None:
    await visit.sign_in(ADMIN_KEY)
    await visit.open("keys")

    await expect(visit.page.get_by_role("button", name="New key")).to_have_count(0)
    await visit.page.get_by_role("link", name="To the keys of all users").click()

    await expect(visit.page.get_by_role("button", name="New key")).to_be_enabled()


async def test_health_shows_each_provider(admin: Visit) -> None:
    await admin.open("health")

    await expect(admin.row("simulator-rerank")).to_contain_text("green")
    await expect(admin.row("simulator-rerank")).to_contain_text("closed")
