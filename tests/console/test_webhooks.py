"""Webhook endpoints and their deliveries."""

import re

import pytest
from playwright.async_api import expect

from tests.console.test_jobs import make_job
from tests.console.visits import Visit
from tests.receivers import Receiver, says
from tests.waiting import eventually
from tests.webhooks import let_time_pass

pytestmark = pytest.mark.asyncio(loop_scope="package")
_SECRET = re.compile("^whsec_")


async def _add_endpoint(visit: Visit, receiver: Receiver) -> None:
    await visit.open("webhooks")
    await visit.page.get_by_role("button", name="New endpoint").first.click()
    await visit.page.get_by_label("Name").fill("<b>Billing</b>")
    await visit.page.get_by_label("URL").fill(receiver.url)
    await visit.page.get_by_role("button", name="Create").click()
    await expect(visit.page.get_by_label("Secret, shown this one time")).to_have_value(_SECRET)
    await visit.page.get_by_role("button", name="Done").click()
    await expect(visit.heading("<b>Billing</b>")).to_be_visible()


async def test_an_endpoint_is_made_and_a_delivery_sent_again(user: Visit, receiver: Receiver) -> None:
    await _add_endpoint(user, receiver)
    await make_job(user, text="Done.")
    await eventually(lambda: receiver.received)
    await user.page.reload()
    await expect(user.row("job.completed")).to_contain_text("delivered")

    await user.row("job.completed").get_by_role("button", name="Redeliver").click()

    await eventually(lambda: len(receiver.received) == 2)
    assert receiver.received[0].id == receiver.received[1].id
    await expect(user.row("job.completed").locator("td").nth(3)).to_have_text("2")
    await user.row("job.completed").get_by_role("link").click()
    await expect(user.page.get_by_label("Body")).to_contain_text(receiver.received[0].id)
    await expect(user.row("manual")).to_contain_text("204")


async def test_a_delivery_that_waits_for_its_next_try_is_followed(user: Visit, receiver: Receiver) -> None:
    receiver.default = says(500)
    await _add_endpoint(user, receiver)
    await make_job(user, text="Done.")
    await expect(user.row("job.completed")).to_contain_text("failed")
    await user.row("job.completed").get_by_role("link").click()
    await expect(user.page.locator(".facts")).to_contain_text("failed")
    await expect(user.row("500").first).to_be_visible()

    receiver.default = says(204)
    await let_time_pass(user.sluice)

    await expect(user.page.locator(".badge")).to_have_text("delivered")
    await expect(user.row("204")).to_be_visible()


async def test_a_test_tells_what_the_receiver_said(user: Visit, receiver: Receiver) -> None:
    receiver.default = says(500, "<img src=x onerror=alert(1)>")
    await _add_endpoint(user, receiver)

    await user.page.get_by_role("button", name="Send a test").click()

    await expect(user.page.get_by_text("the receiver answered 500")).to_be_visible()


async def test_an_endpoint_is_disabled_and_deleted(user: Visit, receiver: Receiver) -> None:
    await _add_endpoint(user, receiver)

    await user.page.get_by_role("button", name="Disable").click()
    await expect(user.page.locator(".facts")).to_contain_text("disabled")
    await user.page.get_by_role("button", name="Delete").click()
    await user.page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    await expect(user.page.get_by_text("No endpoint yet.")).to_be_visible()
    assert (await user.get("/v1/webhook_endpoints"))["data"] == []


async def test_a_url_that_is_not_allowed_is_refused_in_the_form(user: Visit) -> None:
    await user.open("webhooks")
    await user.page.get_by_role("button", name="New endpoint").first.click()
    await user.page.get_by_label("Name").fill("inner")
    await user.page.get_by_label("URL").fill("http://10.0.0.1/")
    await user.page.get_by_role("button", name="Create").click()

    await expect(user.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("webhook_url_not_allowed")
