"""One `Idempotency-Key` makes one batch, whatever fails and whenever, for new batches and for retries."""

from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSessionTransaction

import api.endpoints.batches
from shared.batches.tables import BatchRow
from shared.usage.tables import ChargeRow
from tests.batches import BATCHES, CHATS, chat_line, ended, make_batch
from tests.installation import Installation
from tests.providers import ScriptedProvider, fails

KEY = {"Idempotency-Key": "k-1"}


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> None:
    """Have the next call of a function fail."""
    real = getattr(owner, name)

    def fail(*_args: Any, **_options: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        raise error

    monkeypatch.setattr(owner, name, fail)


def away() -> OperationalError:
    return OperationalError("SELECT", {}, Exception("server closed the connection"))


async def create(installation: Installation) -> Any:
    body = {"requests": [chat_line("a")], "endpoint": CHATS, "completion_window": "24h"}
    return await installation.post(BATCHES, body, headers=KEY)


async def retry(installation: Installation) -> Any:
    (old,) = await installation.rows(BatchRow, BatchRow.retry_of == None)  # noqa: E711  # SQL
    return await installation.post(f"{BATCHES}/batch_{old.id}/retry", {"statuses": ["failed"]}, headers=KEY)


MAKERS = pytest.mark.parametrize("make", [create, retry])


@pytest_asyncio.fixture
async def old_ids(both: Installation, provider: ScriptedProvider) -> list[str]:
    """Ids of the batches there are before the test: one, whose line failed."""
    await both.add_model("scripted", provider.url)
    provider.script = [fails(400, "no")]
    await ended(both, (await make_batch(both, chat_line("old", body={"model": "scripted"})))["id"])
    return [row.id for row in await both.rows(BatchRow)]


@MAKERS
async def test_a_batch_whose_answer_cannot_be_read_is_not_made(
    both: Installation, old_ids: list[str], monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    fails_once(monkeypatch, api.endpoints.batches, "to_batch", away())

    first, second = await make(both), await make(both)

    assert (first.status, second.status) == (503, 200)
    assert await new_batches(both, old_ids) == [(await second.json())["id"]]


async def new_batches(installation: Installation, old_ids: list[str]) -> list[str]:
    return [f"batch_{row.id}" for row in await installation.rows(BatchRow) if row.id not in old_ids]


@MAKERS
async def test_a_batch_is_made_once_whatever_fails_after_it_is_stored(
    both: Installation, old_ids: list[str], monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    fails_once(monkeypatch, both.state.has_new_batch, "set", RuntimeError("broken"))

    first, second = await make(both), await make(both)

    assert (first.status, second.status, second.headers["Idempotency-Replayed"]) == (500, 200, "true")
    assert await new_batches(both, old_ids) == [(await second.json())["id"]]
    await ended(both, (await second.json())["id"])
    assert len(await both.rows(ChargeRow)) == 2


@MAKERS
async def test_a_batch_is_made_once_although_its_commit_was_not_confirmed(
    both: Installation, old_ids: list[str], monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    commit = AsyncSessionTransaction.__aexit__

    async def unconfirmed(self: Any, *error: Any) -> None:
        is_batch = any(isinstance(one, BatchRow) for one in (*self.session.new, *self.session.identity_map.values()))
        await commit(self, *error)
        if is_batch:
            monkeypatch.setattr(AsyncSessionTransaction, "__aexit__", commit)
            raise away()

    monkeypatch.setattr(AsyncSessionTransaction, "__aexit__", unconfirmed)

    first, second = await make(both), await make(both)

    assert (first.status, second.status) == (503, 200)
    assert await new_batches(both, old_ids) == [(await second.json())["id"]]
    done = await ended(both, (await second.json())["id"])
    assert (done["status"], done["request_counts"]["completed"]) == ("completed", 1)  # its input is still there
