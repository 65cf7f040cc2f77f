"""No webhook reaches an address that is not public, however its URL is written and whatever its name resolves to."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from aiohttp.test_utils import unused_port

from shared.settings import Settings
from shared.ssrf import BlockedAddressError, address_guard, is_denied, parse_networks
from shared.webhooks.sending import Outgoing, Try, open_webhook_session, send
from shared.webhooks.signature import Secret, new_secret
from tests.receivers import Receiver

DENIED = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 ::/128 ::1/128 64:ff9b::/96
64:ff9b:1::/48 100::/64 2001::/32 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
""".split()
PUBLIC = ("8.8.8.8", "1.1.1.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1111", "2a00:1450::1")
LOOPBACK = parse_networks("127.0.0.1/32")


@pytest.mark.parametrize("network", DENIED)
def test_every_range_of_the_table_is_denied(network: str) -> None:
    found = ipaddress.ip_network(network)
    for address in (found[0], found[-1], found[found.num_addresses // 2]):
        assert is_denied(str(address))
        assert not is_denied(str(address), parse_networks(f"8.8.8.8,{network}"))
        family = socket.AF_INET if found.version == 4 else socket.AF_INET6
        with pytest.raises(BlockedAddressError):
            address_guard((), lambda *_: None)((family, socket.SOCK_STREAM, 0, "", (str(address), 443)))
        if found.version == 4:
            assert is_denied(f"::ffff:{address}")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not_denied(address: str) -> None:
    assert not is_denied(address)
    assert not is_denied(address, LOOPBACK)


def test_an_allowed_network_wins_also_inside_of_ipv6() -> None:
    assert not is_denied("127.0.0.1", LOOPBACK)
    assert not is_denied("::ffff:127.0.0.1", LOOPBACK)
    assert is_denied("127.0.0.2", LOOPBACK)
    assert is_denied("::1", LOOPBACK)
    assert is_denied("fe80::1%eth0", LOOPBACK)


async def attempt(url: str, **settings: Any) -> Try:
    """Send one webhook there and return how it ended."""
    outgoing = Outgoing(url=url, event_id="evt_1", body=b"{}", secrets=[Secret(new_secret())], headers={})
    async with open_webhook_session(Settings(**settings)) as http:
        return await send(http, outgoing)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0x7f000001",
        "0177.0.0.1", "127.1", "0", "127.0.0.1.", "LOCALHOST", "0x7f.1",
    ],
)  # fmt: skip
async def test_no_form_of_a_loopback_address_is_reached(receiver: Receiver, host: str) -> None:
    port = receiver.url.rpartition(":")[2].partition("/")[0]

    ended = await attempt(f"http://{host}:{port}/")

    assert receiver.received == []
    assert not ended.is_delivered
    assert (ended.status_code, ended.remote_address, ended.snippet) == (None, None, None)
    assert ended.error_class in ("blocked_address", "dns", "connect")


async def test_a_decimal_address_is_not_reached(receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    ended = await attempt(f"http://2130706433:{port}/")
    assert receiver.received == []
    assert ended.error_class in ("blocked_address", "connect", "dns")


async def test_what_is_allowed_is_reached_and_nothing_beside_it(receiver: Receiver) -> None:
    ended = await attempt(receiver.url, webhook_allow_networks="127.0.0.1/32")
    assert ended.is_delivered
    beside = await attempt(receiver.url.replace("127.0.0.1", "127.0.0.2"), webhook_allow_networks="127.0.0.1/32")
    assert beside.error_class == "blocked_address"


async def test_a_name_that_changes_is_judged_by_the_address_that_is_connected(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver answers a public address at first, then loopback: the second try is stopped at its connection."""
    port, asked, answers = int(receiver.url.rpartition(":")[2].partition("/")[0]), [], ["127.0.0.1", "127.0.0.2"]
    loop = asyncio.get_running_loop()

    async def resolve(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    outgoing = Outgoing(
        url=f"http://changes.example:{port}/", event_id="evt_1", body=b"{}", secrets=[Secret(new_secret())], headers={}
    )
    async with open_webhook_session(Settings(webhook_allow_networks="127.0.0.1/32")) as http:
        first = await send(http, outgoing)
        second = await send(http, outgoing)

    assert (first.is_delivered, first.remote_address) == (True, "127.0.0.1")
    assert (second.error_class, second.error) == ("blocked_address", "the address is not allowed")
    assert asked == ["changes.example"] * 2
    assert len(receiver.received) == 1


async def test_names_ports_and_certificates_that_lead_nowhere_are_told_apart(receiver: Receiver) -> None:
    allowed = {"webhook_allow_networks": "127.0.0.1/32"}
    assert (await attempt("http://no-such-host.invalid/", **allowed)).error_class == "dns"
    assert (await attempt(f"http://127.0.0.1:{unused_port()}/", **allowed)).error_class == "connect"
    assert (await attempt(receiver.url.replace("http:", "https:"), **allowed)).error_class == "tls"
