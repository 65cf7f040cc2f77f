"""Carbon intensity of electricity, hour by hour, from a file of the operator.

CSV with a header and at least the columns `zone` (as of providers, such as FRA), `start_utc` (ISO 8601, the start of an
hour) and `g_per_kwh`; further columns, such as `kind` (measured, forecast) and `source`, are for people.
"""

import asyncio
import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()
HOUR_MS: Final = 3_600_000
_NG_PER_NWH: Final = 1e-3
"""Of electricity that causes 1 g per kWh."""


class Intensities:
    """What the file says; it is read again when it has changed."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._changed_ns = 0
        self._by_hour: dict[tuple[str, int], float] = {}

    def refresh(self) -> None:
        """Read the file if it has changed; one that cannot be read leaves what was known."""
        if self._path is None:
            return
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._by_hour = _read(self._path)
                self._changed_ns = changed_ns
        except (OSError, ValueError, KeyError, csv.Error) as error:
            log.warning("intensity_file_not_read", file=self._path.name, error=repr(error))

    def at(self, zone: str, instant_ms: int) -> float | None:
        """Return g CO2e per kWh in the hour of this instant; None if the file does not say."""
        return self._by_hour.get((zone, instant_ms // HOUR_MS))

    def grams_ng(self, zone: str, instant_ms: int, energy_nwh: int) -> int | None:
        """Return the emissions of so much energy in that hour, in ng."""
        intensity = self.at(zone, instant_ms)
        return None if intensity is None else round(energy_nwh * intensity * _NG_PER_NWH)

    def best_start(self, zones: Iterable[str], now_ms: int, latest_ms: int, takes_ms: int) -> int | None:
        """Return the instant from now to `latest_ms` at which work that takes so long emits least.

        None if the file does not know the hours that have to be compared; then there is nothing to wait for.
        """
        zones = sorted(set(zones))
        starts = [now_ms, *range((now_ms // HOUR_MS + 1) * HOUR_MS, latest_ms + 1, HOUR_MS)]
        found = [(mean, start) for start in starts if (mean := self._mean(zones, start, takes_ms)) is not None]
        if not found or found[0][1] != now_ms:
            return None
        cleanest: tuple[float, int] = min(found)
        return cleanest[1]

    def _mean(self, zones: Iterable[str], start_ms: int, takes_ms: int) -> float | None:
        hours = range(start_ms // HOUR_MS, (start_ms + max(takes_ms, 1) - 1) // HOUR_MS + 1)
        values = [self._by_hour.get((zone, hour)) for zone in zones for hour in hours]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None


async def read_intensities(path: str) -> Intensities:
    """Return what a file says; one of some years and zones takes a second, so it is read in a thread."""
    intensities = Intensities(path)
    await asyncio.to_thread(intensities.refresh)
    return intensities


def _read(path: Path) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, restval=""):
            start = datetime.fromisoformat(row["start_utc"].strip())
            start = start.replace(tzinfo=UTC) if start.tzinfo is None else start
            value = float(row["g_per_kwh"])
            if not isfinite(value) or value < 0:
                raise ValueError(f"g_per_kwh {value}")
            found[row["zone"].strip(), int(start.timestamp() * 1000) // HOUR_MS] = value
    return found
