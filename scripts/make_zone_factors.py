"""Write shared/carbon/zones.csv: carbon and water intensity of electricity by zone.

Source: the electricity mixes of the PyPI package ecologits 0.11.3 (development dependency), which takes carbon
intensity from Our World in Data / Ember (CC BY 4.0).
Usage: python scripts/make_zone_factors.py
"""

import csv
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

TARGET = Path(__file__).parent.parent / "shared" / "carbon" / "zones.csv"
SKIPPED = {"EEE"}  # a statistical region, not a zone
VINTAGE = "2025"
SOURCE = "Our World in Data / Ember (CC BY 4.0), as collected in ecologits 0.11.3"


def main() -> None:
    """Write the file."""
    if version("ecologits") != "0.11.3":
        raise SystemExit("ecologits 0.11.3 is needed")
    mixes = json.loads((files("ecologits") / "data" / "electricity_mixes.json").read_text())["electricity_mixes"]
    with TARGET.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["zone", "kg_per_kwh", "l_per_kwh", "vintage", "source"])
        for mix in sorted(mixes, key=lambda mix: mix["name"]):
            if mix["name"] not in SKIPPED:
                writer.writerow([mix["name"], mix["gwp"], mix["wue"], VINTAGE, SOURCE])


if __name__ == "__main__":
    main()
