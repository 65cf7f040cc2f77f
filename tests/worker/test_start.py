"""A worker whose Redis does not answer its first question."""

from typing import Any

import arq.worker
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.installation import Installation, run_workers


async def test_it_waits_and_works(idle: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    told, away = arq.worker.log_redis_info, [True] * 4

    async def ask(redis: Any, log: Any) -> None:
        if away and away.pop():
            raise RedisConnectionError("away")
        await told(redis, log)

    monkeypatch.setattr(arq.worker, "log_redis_info", ask)
    async with run_workers(idle.state.settings):
        assert (await idle.chat()).status == 200

    assert away == []
