"""Does the model hold: what it says of both cores of this machine, and what is measured there.

It says that CPU is what a request costs times the rate, and that cores can be used to 60 %.  The speed of a machine
that others share changes by the minute, so what a chat costs is taken in the same run: with one api, one worker and 32
connections on one core.  Then two of each and 64 connections have both cores, as do the load and the provider.  The
two take turns; the median of the rounds counts.
"""

from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any

import machine
from chat import LOADS
from installation import Installation, open_installation
from load import Load
from machine import ALL_CORES, LOAD_CORES, SERVER_CORES
from measure import Setup
from measuring import PATIENT, weigh
from model import UTILIZATION, cost_us

_BOTH = SERVER_CORES | LOAD_CORES


def check(database: str, setup: Setup, committed: Mapping[str, Any]) -> tuple[str, float, float]:
    """Return what is to be told, the error of the cost in percent of the measured one, and the share of busy cores."""
    settings: dict[str, Any] = {"upstream_url": setup.upstream_url, **PATIENT}
    once, rounds = replace(setup, rounds=1), []
    with (
        open_installation(database, setup.postgres, **settings) as one,
        open_installation(database, setup.postgres, _BOTH, api_processes=2, workers=2, **settings) as two,
    ):
        for _ in range(setup.rounds):
            cost = _weigh(one, LOADS["chat-32"], once)
            rounds.append((cost_us(cost), _weigh(two, LOADS["chat-64"], once)))
    predicted_us = median(cost for cost, _ in rounds)
    measured_us = median(cost_us(measured) for _, measured in rounds)
    error = median(cost / cost_us(measured) - 1 for cost, measured in rounds) * 100
    of_file_us = cost_us(committed["loads"]["chat"])
    per_s = median(measured["per_s"] for _, measured in rounds)
    busy = median(measured["per_s"] * cost_us(measured) / 1e6 for _, measured in rounds)
    planned = UTILIZATION * len(ALL_CORES) * 1e6 / predicted_us
    text = (
        f"{database}: a chat costs {predicted_us:,.0f} us by what it costs on one core, {measured_us:,.0f} us on two:"
        f" {error:+.0f} % ({of_file_us:,.0f} us by the file, with twice the connections for each process)\n"
        f"{database}: planned for {len(ALL_CORES)} cores {planned:,.0f}/s, measured"
        f" {per_s:,.0f}/s with {busy:.2f} of them at work; others had"
        f" {median(measured['others_percent'] for _, measured in rounds):.0f} % (medians of the rounds)"
    )
    return text, error, busy / len(ALL_CORES)


def _weigh(installation: Installation, load: Load, setup: Setup) -> dict[str, Any]:
    if installation.postgres is not None:
        machine.pin_tree([installation.postgres.pid], installation.cores)  # the other installation uses it, too
    return weigh(installation, load, setup)
