"""The operator's file of carbon intensities."""

import os
from pathlib import Path

import pytest

from shared.carbon.intensity import Intensities

HOUR_MS = 1_793_491_200_000
"""2026-11-01T00:00 UTC."""


@pytest.mark.parametrize("row", ["FRA", "FRA,2026-11-01T00:00Z", "FRA,,5", "FRA,2026-11-01T00:00Z,nan", '"'])
def test_a_file_with_a_row_that_cannot_be_read_leaves_what_was_known(tmp_path: Path, row: str) -> None:
    file = tmp_path / "intensities.csv"
    file.write_text("zone,start_utc,g_per_kwh\nFRA,2026-11-01T00:00Z,50\n")
    intensities = Intensities(str(file))
    intensities.refresh()

    file.write_text(f"zone,start_utc,g_per_kwh\nFRA,2026-11-01T00:00Z,70\n{row}\n")
    os.utime(file, ns=(1, 1))
    intensities.refresh()

    assert intensities.at("FRA", HOUR_MS) == 50
