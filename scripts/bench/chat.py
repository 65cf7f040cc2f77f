"""Plain and streamed chats: `chat-*`, `stream-*`, `cores`.  The provider is the upstream of fixed answers."""

import json
from collections.abc import Sequence
from dataclasses import replace

import machine
from installation import Installation, open_installation
from load import Load
from machine import LOAD_CORES, SERVER_CORES
from measure import Gateway, Row, Sample, Setup, measure, summarize
from upstream import ANSWER, CHAT, STREAM_WORDS

_SETTLE_S = 120.0


def _chat(connections: int) -> Load:
    return Load(name=f"chat-{connections}", body=json.dumps(CHAT).encode(), connections=connections, expected=ANSWER)


def _stream(connections: int) -> Load:
    body = json.dumps(CHAT | {"stream": True}).encode()
    name = f"stream-{connections}"
    return Load(name=name, body=body, connections=connections, expected=" word", times=STREAM_WORDS, is_stream=True)


LOADS = {load.name: load for load in (_chat(1), _chat(32), _chat(64), _stream(1), _stream(32))}


def gateway_of(installation: Installation, *, settles: bool = True) -> Gateway:
    """Return what is loaded and weighed of an installation; without a worker it never settles."""

    def settle() -> None:
        if settles:
            installation.ledger.wait_until_done(_SETTLE_S)

    return Gateway(
        name="sluice",
        database=installation.database,
        url=installation.url,
        headers=installation.headers,
        roots=installation.roots,
        settle=settle,
    )


def run_chats(names: Sequence[str], database: str, setup: Setup) -> list[Row]:
    """Measure the named loads on one installation, round by round."""
    with open_installation(database, setup.postgres, upstream_url=setup.upstream_url) as installation:
        samples = go_round(names, [gateway_of(installation)], setup)
        installation.ledger.check()
    return rows_of(samples)


Samples = dict[tuple[str, int], tuple[Gateway, list[Sample]]]
"""By load and place of the gateway."""


def go_round(names: Sequence[str], gateways: Sequence[Gateway], setup: Setup) -> Samples:
    """Measure each load on all gateways in turn, round by round; with one connection also the upstream itself."""
    found: Samples = {}
    direct = Gateway(name="direct", url=setup.upstream_url)
    for load in (LOADS[name] for name in names):
        everyone = [*gateways, direct] if load.connections == 1 else gateways
        for _ in range(setup.rounds):
            for place, gateway in enumerate(everyone):
                sample = measure(gateway, load, setup.effort)
                found.setdefault((load.name, place), (gateway, []))[1].append(sample)
                rate = sample.result.requests / sample.result.seconds
                machine.say(f"{load.name} {gateway.name} {gateway.database}: {rate:.0f}/s")
    return found


def rows_of(samples: Samples) -> list[Row]:
    """Return one row per load and gateway, with the median latency that the gateway adds to its upstream's."""
    rows = [summarize(name, gateway, found) for (name, _), (gateway, found) in samples.items()]
    direct_ms = {row["name"]: row["p50_ms"] for row in rows if row["gateway"] == "direct"}
    for row in rows:
        p50_ms, upstream_ms = row["p50_ms"], direct_ms.get(row["name"])
        has_both = isinstance(p50_ms, float) and isinstance(upstream_ms, float) and row["gateway"] != "direct"
        row["added_p50_ms"] = round(p50_ms - upstream_ms, 3) if has_both else None  # type: ignore[operator]
    return rows


def run_cores(database: str, setup: Setup) -> list[Row]:
    """Measure chat-64 on one core, then with two api and two worker processes on both, which the load shares."""
    rows = []
    both = SERVER_CORES | LOAD_CORES
    for title, cores, processes in (("1 core", SERVER_CORES, 1), ("2 cores, shared with the load", both, 2)):
        settings = {"upstream_url": setup.upstream_url, "api_processes": processes, "workers": processes}
        with open_installation(database, setup.postgres, cores, **settings) as installation:
            gateway = replace(gateway_of(installation), name=f"sluice, {title}")
            samples = [measure(gateway, LOADS["chat-64"], setup.effort) for _ in range(setup.rounds)]
            installation.ledger.check()
        rows.append(summarize("cores", gateway, samples))
    one, two = (float(row["per_s"] or 0) for row in rows)
    for row, ratio in zip(rows, (1.0, two / one if one else 0.0), strict=True):
        row["speed_up"] = round(ratio, 2)
    return rows
