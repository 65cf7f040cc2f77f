"""The playground: streams, their figures, and what a reload, a stop and bad text do to them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Locator, Route, expect

from tests.console.proxies import open_proxy
from tests.console.visits import Visit
from tests.installation import ADMIN_KEY, Installation
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="package")
TRAP = "<img src=x onerror=\"alert('x')\"><script>alert('y')</script><b id=trap>bold</b>"


async def send(visit: Visit, prompt: str, *, model: str = "simulator", **simulator: Any) -> None:
    """Send a prompt; `simulator` says what the model does."""
    page = visit.page
    await page.get_by_label("Model", exact=True).select_option(model)
    extra = page.get_by_label("Other members")
    if not await extra.is_visible():
        await page.get_by_text("More parameters").click()
    await extra.fill(json.dumps({"simulator": simulator}))
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.get_by_role("button", name="Send").click()


def replies(visit: Visit) -> Locator:
    return visit.page.locator(".reply .said:not(.muted)")


def bills(visit: Visit) -> Locator:
    return visit.page.locator(".bill")


async def newest_job(visit: Visit) -> Any:
    return (await visit.get("/v1/jobs", limit=1))["data"][0]


@asynccontextmanager
async def held_up(visit: Visit, pattern: str) -> AsyncIterator[list[str]]:
    """Keep requests of these addresses until the block ends; yields the paths of those that wait."""
    waiting: list[str] = []
    may_go = asyncio.Event()

    async def hold(route: Route) -> None:
        waiting.append(route.request.url)
        await may_go.wait()
        await route.continue_()

    await visit.page.route(pattern, hold)
    yield waiting
    may_go.set()


async def test_a_reply_streams_to_its_end_with_tokens_cost_and_carbon(user: Visit) -> None:
    await send(user, "Hello", model="priced", text="The trains leave every hour.")

    await expect(replies(user)).to_have_text("The trains leave every hour.")
    await expect(bills(user)).to_contain_text("CO2e")
    used = (await newest_job(user))["usage"]
    assert used["cost"] > 0
    shown = await bills(user).inner_text()
    assert f"{used['prompt_tokens']} + {used['completion_tokens']} tokens" in shown
    assert f"cost {used['cost']:.6f}".rstrip("0") in shown


async def test_parameters_go_with_the_prompt(user: Visit) -> None:
    await user.page.get_by_label("Max tokens").fill("7")
    await user.page.get_by_label("System prompt").fill("Be brief.")
    await user.page.get_by_text("More parameters").click()
    await user.page.get_by_label("Temperature").fill("0.5")
    await send(user, "Hello", tokens=3)
    await expect(bills(user)).to_be_visible()

    log = (await user.get("/v1/request_logs", limit=1))["data"][0]
    body = (await user.get(f"/v1/request_logs/{log['id']}", include="request"))["request"]

    assert (body["max_tokens"], body["temperature"]) == (7, 0.5)
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


async def test_a_reload_in_the_middle_of_a_stream_goes_on_to_the_whole_text(user: Visit) -> None:
    text = " ".join(f"word{number}" for number in range(60))
    await send(user, "Count", text=text, chunk_delay_ms=40)
    await expect(replies(user)).to_contain_text("word3 ")

    await user.page.reload()

    await expect(replies(user)).to_contain_text("word6 ")
    assert "word59" not in await replies(user).inner_text()
    await expect(replies(user)).to_have_text(text)
    await expect(bills(user)).to_contain_text("tokens")
    await expect(user.page.locator(".prompt .said")).to_have_text("Count")


async def test_a_connection_that_breaks_costs_no_text(visit: Visit, sluice: Installation) -> None:
    text = " ".join(f"word{number}" for number in range(60))
    cursors: list[str] = []
    visit.page.on("request", lambda request: cursors.append(request.headers.get("last-event-id", "")))
    async with open_proxy(sluice.url) as proxy:
        visit.url = proxy.url
        await visit.sign_in(ADMIN_KEY)
        await send(visit, "Count", text=text, chunk_delay_ms=40)
        await expect(replies(visit)).to_contain_text("word3 ")

        proxy.cut()

        await expect(replies(visit)).to_have_text(text)
        await expect(bills(visit)).to_contain_text("tokens")
    assert any(cursors)


async def test_stop_cancels_the_job_and_keeps_what_came(user: Visit) -> None:
    await send(user, "Go on", tokens=500, chunk_delay_ms=50)
    await expect(replies(user)).not_to_be_empty()

    await user.page.get_by_role("button", name="Stop").click()

    await expect(bills(user)).to_contain_text("cancelled")
    assert (await newest_job(user))["status"] == "cancelled"
    kept = await replies(user).inner_text()
    await user.page.reload()
    await expect(replies(user)).to_have_text(kept)


async def test_a_conversation_is_gone_back_to_and_goes_on(user: Visit) -> None:
    await send(user, "My name is Ada", text="Hello Ada.")
    await expect(bills(user)).to_have_count(1)
    await user.page.get_by_role("button", name="New conversation").click()
    await expect(replies(user)).to_have_count(0)
    await send(user, "Other matter", text="Fine.")
    await expect(bills(user)).to_have_count(1)

    await user.page.get_by_role("link", name="My name is Ada").click()
    await expect(replies(user)).to_have_text("Hello Ada.")
    await send(user, "What is it?", text="Ada.")
    await expect(bills(user)).to_have_count(2)

    completion = (await newest_job(user))["aliases"][0]
    messages = (await user.get(f"/v1/chat/completions/{completion}/messages"))["data"]
    said = [message["content"] for message in messages]
    assert said == ["My name is Ada", "Hello Ada.", "What is it?"]


async def test_a_long_conversation_does_not_hide_the_others(user: Visit) -> None:
    await send(user, "My name is Ada", text="Hello Ada.")
    await expect(bills(user)).to_have_count(1)
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Again"}]}
    metadata = {"client": "console", "conversation": "long"}
    for _ in range(101):
        await user.post("/v1/jobs", {"endpoint": "/v1/chat/completions", "body": body, "metadata": metadata})

    await user.page.reload()

    history = user.page.locator(".history").get_by_role("link")
    await expect(history).to_have_text(["Again", "My name is Ada"])


async def test_nothing_is_sent_behind_a_conversation_that_is_not_read_yet(user: Visit) -> None:
    await send(user, "My name is Ada", text="Hello Ada.")
    await expect(bills(user)).to_have_count(1)
    box = user.page.get_by_label("Prompt", exact=True)
    async with held_up(user, "**/v1/jobs?*conversation*") as waiting:
        await user.page.reload()
        await eventually(lambda: waiting)
        await box.fill("What is it?")
        await box.press("Control+Enter")
        await expect(user.page.get_by_role("button", name="Send")).to_be_disabled()

    await expect(replies(user)).to_have_text("Hello Ada.")
    await expect(box).to_have_value("What is it?")
    await send(user, "What is it?", text="Ada.")
    await expect(bills(user)).to_have_count(2)

    completion = (await newest_job(user))["aliases"][0]
    messages = (await user.get(f"/v1/chat/completions/{completion}/messages"))["data"]
    assert [message["content"] for message in messages] == ["My name is Ada", "Hello Ada.", "What is it?"]


async def test_a_conversation_that_could_not_be_read_is_read_again(user: Visit) -> None:
    await send(user, "My name is Ada", text="Hello Ada.")
    await expect(bills(user)).to_have_count(1)
    pattern = "**/v1/jobs?*conversation*"
    await user.page.route(pattern, lambda route: route.fulfill(status=418, body="{}"))
    await user.page.reload()
    await expect(user.page.get_by_role("alert")).to_contain_text("418")
    await expect(user.page.get_by_role("button", name="Send")).to_be_disabled()

    await user.page.unroute(pattern)
    await user.page.get_by_role("button", name="Try again").click()

    await expect(replies(user)).to_have_text("Hello Ada.")
    await expect(user.page.get_by_role("alert")).to_have_count(0)
    await expect(user.page.get_by_role("button", name="Send")).to_be_enabled()


async def test_a_conversation_is_named_after_its_first_prompt(user: Visit) -> None:
    await user.page.get_by_label("System prompt").fill("Be brief.")
    await send(user, "My name is Ada", text="Hello Ada.")
    await expect(bills(user)).to_have_count(1)
    await send(user, "What is it?", text="Ada.")
    await expect(bills(user)).to_have_count(2)

    await user.page.reload()

    await expect(user.page.get_by_role("link", name="My name is Ada")).to_be_visible()
    await expect(user.page.get_by_role("link", name="What is it?")).to_have_count(0)


async def test_a_prompt_is_sent_once_however_often_it_is_asked_for(user: Visit) -> None:
    box = user.page.get_by_label("Prompt", exact=True)
    async with held_up(user, "**/v1/chat/completions") as waiting:
        await box.fill("Hello")
        await box.press("Control+Enter")
        await eventually(lambda: waiting)

        await box.press("Control+Enter")
        await box.press_sequentially("And then?")
        await box.press("Control+Enter")

    await expect(bills(user)).to_have_count(1)
    await expect(box).to_have_value("And then?")
    assert len((await user.get("/v1/jobs"))["data"]) == 1


async def test_a_refused_prompt_comes_back_before_what_was_typed_meanwhile(user: Visit) -> None:
    await user.page.get_by_label("Max tokens").fill("9999999999")
    box = user.page.get_by_label("Prompt", exact=True)
    async with held_up(user, "**/v1/chat/completions") as waiting:
        await box.fill("Hello")
        await box.press("Control+Enter")
        await eventually(lambda: waiting)
        await box.press_sequentially("And then?")

    await expect(user.page.get_by_role("alert")).to_contain_text("422")
    await expect(box).to_have_value("Hello\nAnd then?")
    await expect(user.page.get_by_role("button", name="Send")).to_be_enabled()


async def test_a_refusal_is_shown_with_its_code(user: Visit) -> None:
    await user.page.get_by_label("Max tokens").fill("9999999999")
    await send(user, "Hello")

    await expect(user.page.get_by_role("alert")).to_contain_text("422")
    await expect(user.page.get_by_role("alert")).to_contain_text("max_tokens")
    await expect(user.page.get_by_label("Prompt", exact=True)).to_have_value("Hello")


async def test_a_reply_that_failed_says_why(user: Visit) -> None:
    await send(user, "Hello", fail="400")

    await expect(user.page.locator(".reply").get_by_role("alert")).to_contain_text("told to refuse")
    await expect(bills(user)).to_contain_text("failed")


async def test_markup_in_prompt_and_reply_is_text(user: Visit) -> None:
    await send(user, TRAP, text=TRAP)

    await expect(bills(user)).to_be_visible()
    await expect(replies(user)).to_have_text(TRAP)
    await user.page.reload()
    await expect(replies(user)).to_have_text(TRAP)
    await expect(user.page.locator(".prompt .said")).to_have_text(TRAP)
    assert await user.page.locator("#trap, main img, main script").count() == 0
    job = await newest_job(user)
    await user.open(f"jobs/{job['id']}")
    await expect(user.page.get_by_label("Output")).to_have_text(TRAP)
    log = await eventually(lambda: _log_of(user, job["id"]))
    await user.open(f"logs/{log['id']}")
    await expect(user.page.get_by_role("region", name="Request", exact=True)).to_contain_text("onerror")
    assert await user.page.locator("#trap, main img, main script").count() == 0


async def _log_of(visit: Visit, job_id: str) -> Any:
    found = (await visit.get("/v1/request_logs", job_id=job_id))["data"]
    return found[0] if found else None
