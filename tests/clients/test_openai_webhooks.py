"""The stock OpenAI client manages endpoints and reads what they get; the reference library agrees."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from openai import AsyncOpenAI, BadRequestError, InvalidWebhookSignatureError, NotFoundError
from standardwebhooks import Webhook

from tests.installation import ADMIN_KEY, Installation
from tests.receivers import Receiver
from tests.webhooks import until


@pytest_asyncio.fixture
async def client(told: Installation) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{told.url}/v1", api_key=ADMIN_KEY) as opened:
        yield opened


async def test_endpoints_are_managed_by_the_stock_client(client: AsyncOpenAI, receiver: Receiver) -> None:
    made = await client.webhooks.create(event_types=["batch.completed"], name="prod", url=receiver.url)
    assert made.object == "webhook_endpoint"
    assert made.signing_secret.startswith("whsec_")

    shown = await client.webhooks.retrieve(made.id)
    assert (shown.name, shown.url, shown.event_types) == ("prod", receiver.url, ["batch.completed"])
    assert shown.signing_secret_hint == made.signing_secret_hint
    changed = await client.webhooks.update(made.id, name="other", event_types=["batch.failed"])
    assert (changed.name, changed.event_types) == ("other", ["batch.failed"])
    others = [
        await client.webhooks.create(event_types=["video.completed"], name=f"{n}", url=receiver.url) for n in "ab"
    ]
    listed = [endpoint.id async for endpoint in client.webhooks.list(limit=1)]
    assert listed == [others[1].id, others[0].id, made.id]
    assert "job.completed" in (await client.webhooks.event_types.list()).data
    tested = await client.webhooks.test(made.id, event_type="batch.completed")
    assert (tested.status_code, tested.success, tested.object) == (204, True, "webhook_endpoint.test")
    got = receiver.received[0]
    event = client.webhooks.unwrap(got.raw.decode(), got.headers, secret=made.signing_secret)
    assert event.type == "batch.completed"
    assert (await client.webhooks.rotate_secret(made.id)).signing_secret != made.signing_secret
    assert (await client.webhooks.delete(made.id)).deleted
    with pytest.raises(NotFoundError):
        await client.webhooks.retrieve(made.id)
    with pytest.raises(BadRequestError) as refused:
        await client.webhooks.create(event_types=["batch.completed"], name="n", url="http://10.0.0.1/")
    assert refused.value.code == "webhook_url_not_allowed"


async def test_both_secrets_verify_during_an_overlap(
    told: Installation, client: AsyncOpenAI, receiver: Receiver
) -> None:
    made = await client.webhooks.create(
        event_types=["job.completed"],  # type: ignore[list-item]
        name="n",
        url=receiver.url,
    )
    rotated = await client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)

    await client.chat.completions.create(model="simulator", messages=[{"role": "user", "content": "Hello"}])
    await until(told, {"id": made.id}, "delivered")

    got = receiver.received[0]
    for secret in (made.signing_secret, rotated.signing_secret):
        event = client.webhooks.unwrap(got.raw.decode(), got.headers, secret=secret)
        assert (event.type, event.id) == ("job.completed", got.id)
        assert Webhook(secret).verify(got.raw, got.headers)["id"] == got.id
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(got.raw.decode() + " ", got.headers, secret=made.signing_secret)
