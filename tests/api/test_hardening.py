"""What hostile or broken clients send before there is a request, and what browsers are told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from yarl import URL

from tests.conftest import make_settings
from tests.installation import ADMIN_KEY, Installation, open_installation
from tests.servers import RedisServer

PAGE = "https://app.example"
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nHost: sluice\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"


@pytest_asyncio.fixture
async def hasty(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Installation]:
    """An installation that waits for nobody, and takes calls from one page."""
    settings = make_settings(tmp_path, redis_server, idle_timeout_s=0.3, body_timeout_s=0.3, cors_origins=PAGE)
    async with open_installation(settings, workers=False) as installation:
        yield installation


async def _send(installation: Installation, *pieces: str, pause_s: float = 0.0) -> bytes:
    """Return the head of the answer and what comes with it; nothing if the connection is just closed."""
    url = URL(installation.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        for piece in pieces:
            writer.write(piece.encode())
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(10):
            return await reader.readuntil(b"\r\n\r\n") + await reader.read(4096)
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


async def test_a_client_that_sends_its_headers_for_ever_is_cut_off(hasty: Installation) -> None:
    answer = await _send(hasty, HEAD, "X-Slow: 1")

    assert not answer.startswith(b"HTTP/1.1 2")


async def test_a_client_that_sends_nothing_is_cut_off(hasty: Installation) -> None:
    assert await _send(hasty) == b""


async def test_a_body_that_does_not_come_is_given_up_with_408(hasty: Installation) -> None:
    answer = await _send(hasty, HEAD + 'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"model"')

    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert b'"code":"body_timeout"' in answer


async def test_a_form_that_stops_coming_is_given_up_with_408_and_leaves_no_file(hasty: Installation) -> None:
    head = HEAD.replace("/v1/chat/completions", "/v1/files") + "Content-Type: multipart/form-data; boundary=b\r\n"
    part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"custom_id"'

    answer = await _send(hasty, head + "Content-Length: 5000\r\n\r\n" + part)

    assert answer.startswith(b"HTTP/1.1 408"), answer
    files = Path(hasty.state.settings.data_dir) / "files"
    assert [path for path in files.rglob("*") if path.is_file()] == []


async def test_huge_headers_are_refused(hasty: Installation) -> None:
    large = await _send(hasty, HEAD + f"X-Large: {'a' * 100_000}\r\n\r\n")
    many = await _send(hasty, HEAD + "".join(f"X-{number}: 1\r\n" for number in range(5_000)) + "\r\n")

    assert large.partition(b" ")[2].startswith(b"400"), large[:100]
    assert many.partition(b" ")[2].startswith(b"400"), many[:100]


async def test_what_was_refused_hurts_nobody_else(hasty: Installation) -> None:
    await _send(hasty, HEAD + f"X-Large: {'a' * 100_000}\r\n\r\n")

    assert (await hasty.get("/health")).status == 200


async def test_browsers_do_not_guess_what_an_answer_is(hasty: Installation) -> None:
    for path in ("/v1/models", "/v1/nowhere", "/"):
        assert (await hasty.get(path)).headers["x-content-type-options"] == "nosniff", path


async def _ask_first(installation: Installation, origin: str) -> Any:
    headers = {
        "Origin": origin, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }  # fmt: skip
    return await installation.client.options("/v1/chat/completions", headers=headers)


async def test_a_page_of_another_origin_may_call_only_if_it_is_named(hasty: Installation) -> None:
    named, other = await _ask_first(hasty, PAGE), await _ask_first(hasty, "https://other.example")

    assert named.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in named.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in other.headers
    answer = await hasty.get("/v1/models", headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_no_page_may_call_unless_it_was_set(idle: Installation) -> None:
    asked = await _ask_first(idle, PAGE)
    answer = await idle.get("/v1/models", headers={"Origin": PAGE})

    assert asked.status == 405
    assert not [name for name in (*asked.headers, *answer.headers) if name.lower().startswith("access-control")]
