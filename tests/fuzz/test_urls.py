"""URLs of callers: one that is let through leads to a public address, however it is written."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from shared.errors import InvalidFieldError
from shared.files.errors import FileTooLargeError, UnsupportedFileTypeError
from shared.ocr.documents import check_data_uri, size_of
from shared.ocr.schemas import OcrDocument
from shared.settings import Settings
from shared.ssrf import UrlNotAllowedError, check_public_url, is_denied
from shared.webhooks.urls import WebhookUrlNotAllowedError, check_webhook_url
from tests.fuzz.profile import FUZZED
from tests.fuzz.strategies import broken

PUBLIC: Final = "93.184.216.34"


class Resolver(asyncio.SelectorEventLoop):
    """Knows addresses in all forms the system knows, and one name; asks nobody."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:  # type: ignore[override]
        if host in ("public.example", "public.example."):
            host = PUBLIC
        if isinstance(host, str):
            host.encode("idna")  # as the resolver does
        return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, **options)


def resolved(answer: Any) -> Any:
    loop = Resolver()
    try:
        return loop.run_until_complete(answer)
    finally:
        loop.close()


@st.composite
def hosts(draw: st.DrawFn) -> str:
    """Return an address in one of the forms that resolvers understand."""
    four = IPv4Address(
        draw(st.sampled_from([2130706433, 167772161, 2852039166, 0, 2**32 - 1]) | st.integers(0, 2**32 - 1))
    )
    six = draw(
        st.sampled_from(
            [f"::ffff:{four}", f"64:ff9b::{four}", "::1", f"::{four}", "fe80::1", str(IPv6Address(1 << 100))]
        )
    )
    parts = str(four).split(".")
    forms = [
        str(four),
        str(int(four)),
        hex(int(four)),
        oct(int(four)).replace("o", ""),
        ".".join(map(hex, map(int, parts))),
        ".".join("0" + oct(int(part))[2:] for part in parts),
        f"{parts[0]}.{int(four) & 0xFFFFFF}",
        f"[{six}]",
        f"[{six}%25eth0]",
        str(four) + ".",
        "".join(chr(0xFF10 + int(c)) if c.isdigit() else "。" for c in str(four)),
        "public.example",
        "localhost",
    ]
    return draw(st.sampled_from(forms))


@st.composite
def urls(draw: st.DrawFn) -> str:
    scheme = draw(st.sampled_from(["https", "http", "HTTPS", "file", "", "javascript"]))
    user = draw(
        st.sampled_from(["", "", "", "a@", "a:b@", "public.example\\@", "public.example#@", "public.example%40"])
    )
    port = draw(st.sampled_from(["", "", ":443", ":80", ":8443", ":0", ":99999", ":x", ":"]))
    rest = draw(
        st.sampled_from(
            ["", "/", "/a?b=c#d", "?@public.example", "#@public.example", "\\@public.example/", "/%00", "/é"]
        )
    )
    text = f"{scheme}://{user}{draw(hosts())}{port}{rest}"
    odd = broken(st.just(text.encode()), most=2).map(lambda data: data.decode(errors="replace"))
    return draw(st.just(text) | odd | st.text(max_size=20))


def leads_inside(host: str) -> bool:
    """Return whether a client that is given this host would connect to an address that is not public."""
    if host in ("public.example", "public.example."):
        return False
    try:
        found = socket.getaddrinfo(host, 443, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # a name, which the check asked the resolver for
    return any(is_denied(str(address[4][0])) for address in found)


@FUZZED
@given(urls())
def test_documents_are_not_asked_for_inside(url: str) -> None:
    try:
        resolved(check_public_url(url, "document_url"))
    except UrlNotAllowedError:
        return
    try:
        host = URL(url).host or ""
    except ValueError:  # leads nowhere
        return
    assert not leads_inside(host), host
    assert host not in ("localhost", "")


@FUZZED
@given(urls(), st.booleans(), st.booleans())
def test_webhooks_are_not_sent_inside(url: str, allow_http: bool, allow_literals: bool) -> None:
    settings = Settings(webhook_allow_http=allow_http, webhook_allow_literals=allow_literals)
    try:
        found = resolved(check_webhook_url(url, settings, "url"))
    except WebhookUrlNotAllowedError:
        return
    read = URL(found)
    assert read.scheme == "https" or allow_http
    assert not leads_inside(read.raw_host or "")
    assert resolved(check_webhook_url(found, settings, "url")) == found


URIS: Final = (
    "data:image/png;base64,iVBORw0KGgo=", "data:application/pdf;base64,JVBERi0xLjQK", "DATA:text/plain;base64,YQ==",
    "data:image/png,abc", "data:;base64,", "data:image/png;base64,====", "data:image/png;charset=a;base64,iVBORw0KGgoA",
)  # fmt: skip


@FUZZED
@given(
    st.sampled_from(URIS)
    | broken(st.sampled_from(URIS).map(str.encode)).map(lambda data: data.decode(errors="replace"))
)
def test_data_uris(uri: str) -> None:
    try:
        asyncio.run(check_data_uri(OcrDocument(image_url=uri), uri))
    except (InvalidFieldError, UnsupportedFileTypeError, FileTooLargeError):
        return
    assert 0 < size_of(uri) <= len(uri)
