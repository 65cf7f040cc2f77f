"""Signing in and out."""

import pytest
from playwright.async_api import expect

from tests.console.visits import Visit
from tests.installation import Installation
from tests.people import PASSWORD, add_user, key_of, read

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _fill(visit: Visit, email: str, password: str) -> None:
    form = visit.page.get_by_role("form", name="With email and password")
    await form.get_by_label("Email").fill(email)
    await form.get_by_label("Password").fill(password)
    await visit.page.keyboard.press("Enter")


async def test_a_key_opens_the_console_and_stays_in_this_tab(user: Visit) -> None:
    await user.page.reload()

    await expect(user.heading("Playground")).to_be_visible()
    assert await user.page.evaluate("localStorage.length") == 0
    assert await user.page.evaluate("document.cookie") == ""


async def test_a_wrong_key_is_refused_with_a_message(visit: Visit) -> None:
    await visit.open()
    await visit.key_field().fill("sk-nobodys")
    await visit.page.keyboard.press("Enter")

    await expect(visit.page.get_by_role("alert")).to_contain_text("401")
    await expect(visit.heading("Sign in")).to_be_visible()


@pytest.mark.parametrize(
    ("role", "scopes", "heading"),
    [
        (2, ["inference"], "Sign in"),
        (1, ["inference"], "Sign in"),
        (2, ["jobs"], "Playground"),
        (1, ["admin"], "Playground"),
    ],
)
async def test_a_key_with_scopes_opens_the_console_if_that_has_something_to_show(
    visit: Visit, sluice: Installation, role: int, scopes: list[str], heading: str
) -> None:
    person = await add_user(sluice, f"{scopes[0]}-{role}@example.com", role=role)
    key = (await key_of(sluice, person["id"], scopes=scopes))["Authorization"].removeprefix("Bearer ")
    await visit.open()
    await visit.key_field().fill(key)
    await visit.page.keyboard.press("Enter")

    if heading == "Sign in":
        await expect(visit.page.get_by_role("alert")).to_contain_text("it lacks the scope “jobs”")
    await expect(visit.heading(heading)).to_be_visible()


async def test_a_password_opens_the_console_and_signing_out_ends_the_session(
    visit: Visit, sluice: Installation
) -> None:
    person = await add_user(sluice, "password@example.com")
    await visit.open()
    await _fill(visit, "password@example.com", PASSWORD)
    await expect(visit.heading("Playground")).to_be_visible()
    assert (await read(sluice, f"/v1/admin/tokens?user={person['id']}"))["total"] == 1

    await visit.page.get_by_role("button", name="Sign out").click()

    await expect(visit.heading("Sign in")).to_be_visible()
    assert (await read(sluice, f"/v1/admin/tokens?user={person['id']}"))["total"] == 0
    assert await visit.page.evaluate("sessionStorage.length") == 0


async def test_a_wrong_password_is_told_as_such(visit: Visit, sluice: Installation) -> None:
    await add_user(sluice, "wrong@example.com")
    await visit.open()

    await _fill(visit, "wrong@example.com", "not the right one")

    await expect(visit.page.get_by_role("alert")).to_contain_text("Email or password is wrong.")
    await expect(visit.page.get_by_role("alert")).to_contain_text("401")


async def test_a_session_that_ended_leads_to_the_sign_in_and_back(user: Visit, sluice: Installation) -> None:
    await user.open("jobs")
    tokens = await read(sluice, f"/v1/admin/tokens?user={user.user_id}")
    await sluice.delete(f"/v1/admin/tokens/{tokens['data'][0]['id']}")

    await user.page.get_by_role("link", name="Batches").click()

    await expect(user.heading("Sign in")).to_be_visible()
    await expect(user.page.get_by_role("alert")).to_contain_text("Your session has ended")
    await user.key_field().fill(sluice.headers["Authorization"].removeprefix("Bearer "))
    await user.page.keyboard.press("Enter")
    await expect(user.heading("Batches")).to_be_visible()


async def test_administration_is_for_administrators(user: Visit) -> None:
    await expect(user.page.get_by_role("link", name="Routers")).to_have_count(0)

    await user.open("users")

    await expect(user.heading("Not found")).to_be_visible()


async def test_a_user_changes_the_own_name_and_password_and_stays_signed_in(visit: Visit, sluice: Installation) -> None:
    person = await add_user(sluice, "own@example.com")
    await visit.open()
    await _fill(visit, "own@example.com", PASSWORD)
    await visit.open("account")
    await expect(visit.page.get_by_text("own@example.com", exact=True).first).to_be_visible()
    await expect(visit.page.get_by_role("row", name="simulator unlimited")).to_be_visible()

    await visit.page.get_by_role("button", name="Change name or email").click()
    await visit.page.get_by_role("textbox", name="Name").fill("<b>Ada</b>")
    await visit.page.get_by_role("button", name="Save").click()
    await expect(visit.page.locator("header .who")).to_have_text("<b>Ada</b>")

    await visit.page.get_by_role("button", name="Change password").click()
    await visit.page.get_by_role("textbox", name="Current password").fill("not the right one")
    await visit.page.get_by_role("textbox", name="New password").fill("a new and longer one")
    await visit.page.get_by_role("button", name="Change", exact=True).click()
    await expect(visit.page.get_by_role("alert")).to_be_visible()
    await visit.page.get_by_role("textbox", name="Current password").fill(PASSWORD)
    await visit.page.get_by_role("button", name="Change", exact=True).click()
    await expect(visit.page.get_by_role("dialog")).to_have_count(0)

    await visit.open("jobs")
    await expect(visit.heading("Jobs")).to_be_visible()
    login = {"email": "own@example.com", "password": "a new and longer one"}
    assert (await sluice.client.post("/v1/auth/login", json=login)).status == 200
    assert (await read(sluice, f"/v1/admin/users/{person['id']}"))["name"] == "<b>Ada</b>"
