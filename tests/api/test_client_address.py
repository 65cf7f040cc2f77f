"""Whose address counts where proxies are in between."""

from pathlib import Path

import pytest

from shared.request_logs.tables import RequestLogRow
from shared.settings import SettingsError, load_settings
from tests.conftest import make_settings
from tests.installation import open_installation
from tests.people import PASSWORD, add_user
from tests.servers import RedisServer

HOPS = {
    "": "127.0.0.1",
    "198.51.100.7": "198.51.100.7",
    "6.6.6.6, 198.51.100.7": "198.51.100.7",
    "6.6.6.6, 198.51.100.7, 127.0.0.9": "198.51.100.7",
    "2001:db8::7": "2001:db8::7",
    "198.51.100.7, ::ffff:127.0.0.9": "198.51.100.7",
    "::ffff:198.51.100.7": "198.51.100.7",
    "6.6.6.6, somebody": "127.0.0.1",
    "127.0.0.3": "127.0.0.3",
}
"""`X-Forwarded-For` to whom it means, if the caller and 127.0.0.9 are proxies."""


async def test_the_nearest_hop_that_is_no_proxy_is_the_client(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = make_settings(tmp_path, redis_server, trusted_proxies="127.0.0.0/8")
    async with open_installation(settings) as sluice:
        for forwarded in HOPS:
            await sluice.chat(headers={"X-Forwarded-For": forwarded} if forwarded else {})
        rows = await sluice.rows(RequestLogRow)

    assert [row.client_address for row in sorted(rows, key=lambda row: row.created_ms)] == list(HOPS.values())


async def test_a_header_of_somebody_who_is_not_trusted_means_nothing(tmp_path: Path, redis_server: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, redis_server)) as sluice:
        await sluice.chat(headers={"X-Forwarded-For": "198.51.100.7"})
        (row,) = await sluice.rows(RequestLogRow)

    assert row.client_address == "127.0.0.1"


async def test_who_guesses_passwords_locks_nobody_else_behind_the_proxy_out(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    settings = make_settings(tmp_path, redis_server, trusted_proxies="127.0.0.1")
    async with open_installation(settings, workers=False) as sluice:
        await add_user(sluice, "ada@example.com")

        async def login(email: str, password: str, client: str) -> int:
            body, headers = {"email": email, "password": password}, {"X-Forwarded-For": client}
            return (await sluice.client.post("/v1/auth/login", json=body, headers=headers)).status

        guesses = [await login(f"{n}@example.com", "not the right one", "203.0.113.1") for n in range(11)]

        assert guesses == [401] * 10 + [429]
        assert await login("ada@example.com", PASSWORD, "203.0.113.1") == 429
        assert await login("ada@example.com", PASSWORD, "203.0.113.2") == 200


def test_what_is_no_network_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="SLUICE_TRUSTED_PROXIES"):
        load_settings({"SLUICE_TRUSTED_PROXIES": "the proxy"})
