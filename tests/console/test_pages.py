"""What holds for every page: accessible in both themes, usable on a narrow screen and by keyboard."""

import re
from typing import Any, Literal

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.console.test_jobs import CHAT, line, make_job
from tests.console.visits import Visit, open_visit
from tests.installation import ADMIN_KEY, Installation
from tests.receivers import Receiver
from tests.waiting import eventually
from tests.webhooks import add_endpoint, deliveries

ColorScheme = Literal["light", "dark"]
pytestmark = pytest.mark.asyncio(loop_scope="package")
_OPTIONS: dict[ColorScheme, dict[str, Any]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast"]},
}


@pytest_asyncio.fixture(loop_scope="package")
async def places(visit: Visit, sluice: Installation, receiver: Receiver) -> list[str]:
    """Return the addresses of all pages, with something on each."""
    visit.headers = sluice.headers
    endpoint = await add_endpoint(sluice, receiver)
    talk = {"client": "console", "conversation": "c0ffee"}
    members: dict[str, Any] = {"model": "priced", "stream": True, "metadata": talk}
    chat = members | {"messages": [{"role": "user", "content": "Hello"}]}
    await visit.post(CHAT, chat, Prefer="respond-async")
    job = await make_job(visit, fail="400")
    requests = [line("good"), line("bad", fail="400")]
    batch = await visit.post("/v1/batches", {"endpoint": CHAT, "completion_window": "24h", "requests": requests})
    delivery = (await eventually(lambda: deliveries(sluice, endpoint)))[0]
    log = (await visit.get("/v1/request_logs", limit=1))["data"][0]
    return [
        "playground", "playground/c0ffee", "jobs", f"jobs/{job['id']}", "batches", f"batches/{batch['id']}",
        f"logs?job_id={job['id']}", f"logs/{log['id']}", "usage", "webhooks", f"webhooks/{endpoint['id']}",
        f"webhooks/deliveries/{delivery['id']}", "keys", "account", "health", "organizations", "roles", "users",
        "all-keys", "routers", "providers", "audit", "nowhere",
    ]  # fmt: skip


async def _open(visit: Visit, place: str) -> None:
    """Go to a page and wait until everything on it was read."""
    await visit.open(place)
    await expect(visit.page.locator("[aria-busy=true], .panel:empty")).to_have_count(0)


async def _violations(visit: Visit, place: str) -> list[str]:
    """Return what axe finds; only contrasts differ between the themes."""
    found = []
    for theme, options in _OPTIONS.items():
        await visit.page.emulate_media(color_scheme=theme)
        results = await visit.page.evaluate("options => axe.run(options)", options)
        found += [f"{place}, {theme}: {one['id']}: {one['nodes'][0]['html']}" for one in results["violations"]]
    return found


@pytest.mark.timeout(180)
async def test_axe_finds_nothing_on_any_page_in_either_theme(visit: Visit, places: list[str]) -> None:
    await visit.open()
    await visit.page.evaluate(Axe().axe_script)
    found = await _violations(visit, "sign in")
    await visit.sign_in(ADMIN_KEY)
    await visit.page.evaluate(Axe().axe_script)
    for place in places:
        await _open(visit, place)
        found += await _violations(visit, place)
    await _open(visit, "users")
    await visit.page.get_by_role("button", name="New user").click()
    found += await _violations(visit, "a dialog")

    assert found == []


async def test_no_page_is_wider_than_a_narrow_screen(visit: Visit, places: list[str]) -> None:
    await visit.page.set_viewport_size({"width": 400, "height": 800})
    await visit.sign_in(ADMIN_KEY)
    wide = []
    for place in places:
        await _open(visit, place)
        if await visit.page.evaluate("document.documentElement.scrollWidth") > 400:
            wide.append(place)

    assert wide == []


async def test_the_menu_of_a_narrow_screen_opens_by_keyboard(user: Visit) -> None:
    await user.page.set_viewport_size({"width": 400, "height": 800})
    menu = user.page.get_by_role("button", name="Menu")
    await expect(user.page.get_by_role("link", name="Jobs")).to_have_count(0)

    await menu.focus()
    await user.page.keyboard.press("Enter")

    await expect(menu).to_have_attribute("aria-expanded", "true")
    await user.page.get_by_role("link", name="Jobs").focus()
    await user.page.keyboard.press("Enter")
    await expect(user.heading("Jobs")).to_be_focused()


async def test_a_prompt_is_sent_by_keyboard_alone(user: Visit) -> None:
    await expect(user.page.get_by_label("Prompt", exact=True)).to_be_focused()
    await user.page.keyboard.type("Hello")
    await user.page.keyboard.press("Control+Enter")

    await expect(user.page.locator(".bill")).to_contain_text("tokens")


async def test_the_skip_link_leads_past_the_menu(user: Visit) -> None:
    await user.open("jobs")
    await user.page.evaluate("document.activeElement.blur()")
    skip = user.page.get_by_role("link", name="Skip to the content")

    await skip.focus()
    await user.page.keyboard.press("Enter")

    await expect(user.page.locator("main")).to_be_focused()
    assert user.page.url.endswith("#/jobs")


async def test_a_chosen_theme_is_kept_and_wins_over_the_system(browser: Browser, sluice: Installation) -> None:
    async with open_visit(browser, sluice, "theme", color_scheme="light") as visit:
        await visit.open()
        light = await _ground(visit)

        await visit.page.get_by_label("Colours").select_option("dark")
        dark = await _ground(visit)
        await visit.page.reload()

        assert dark != light
        assert await _ground(visit) == dark
        assert visit.complaints == []


async def _ground(visit: Visit) -> str:
    await expect(visit.page.locator("h1")).to_be_visible()
    return str(await visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))


async def test_the_policy_stops_inline_scripts_and_markup_made_of_strings(visit: Visit) -> None:
    await visit.open()

    refused = await visit.page.evaluate(
        """() => {
            try { document.body.innerHTML = '<b>no</b>'; return 'taken'; } catch (error) { return error.name; }
        }"""
    )
    await visit.page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.append('window.ran = true');
            document.head.append(script);
        }"""
    )

    assert refused == "TypeError"
    assert await visit.page.evaluate("window.ran === undefined")
    assert {"TrustedHTML", "TrustedScript"} <= set(re.findall(r"Trusted\w+", " ".join(visit.complaints)))
    visit.complaints.clear()
