"""Does the model hold: the rate it predicts for both cores of this machine, and the one that is measured there.

The speed of a machine that others share changes by the minute, so what a chat costs is taken in the same run: with one
api, one worker and 32 connections on one core.  Then two of each and 64 connections have both cores, as do the load
and the provider.  The two take turns; the median of the rounds counts.
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
from model import rate_of_cores

_BOTH = SERVER_CORES | LOAD_CORES


def check(database: str, setup: Setup, committed: Mapping[str, Any]) -> tuple[str, float]:
    """Return what is to be told, and the error of the prediction in percent of what was measured."""
    settings: dict[str, Any] = {"upstream_url": setup.upstream_url, **PATIENT}
    once, rounds = replace(setup, rounds=1), []
    with (
        open_installation(database, setup.postgres, **settings) as one,
        open_installation(database, setup.postgres, _BOTH, api_processes=2, workers=2, **settings) as two,
    ):
        for _ in range(setup.rounds):
            cost = _weigh(one, LOADS["chat-32"], once)
            rounds.append((cost, _weigh(two, LOADS["chat-64"], once)))
    found = [_compare(cost, committed["loads"]["chat"], measured) for cost, measured in rounds]
    predicted, of_file, per_s, others = (median(column) for column in zip(*found, strict=True))
    error = median(predicted / per_s - 1 for predicted, _, per_s, _ in found) * 100
    of_file_error = median(of_file / per_s - 1 for _, of_file, per_s, _ in found) * 100
    text = (
        f"{database}: predicted {predicted:,.0f}/s, measured {per_s:,.0f}/s: {error:+.0f} % (medians of the rounds);"
        f" others had {others:.0f} % of the cores (by the costs of the file, taken at another hour: {of_file:,.0f}/s,"
        f" {of_file_error:+.0f} %)"
    )
    return text, error


def _weigh(installation: Installation, load: Load, setup: Setup) -> dict[str, Any]:
    if installation.postgres is not None:
        machine.pin_tree([installation.postgres.pid], installation.cores)  # the other installation uses it, too
    return weigh(installation, load, setup)


def _compare(
    cost: Mapping[str, Any], committed: Mapping[str, Any], measured: Mapping[str, Any]
) -> tuple[float, float, float, float]:
    """Return the rate by the costs of this run, that by those of the file, the measured one, and the others' share."""
    cores = len(ALL_CORES) * (1 - measured["others_percent"] / 100)
    return (
        rate_of_cores(cost, cores), rate_of_cores(committed, cores), measured["per_s"], measured["others_percent"],
    )  # fmt: skip
