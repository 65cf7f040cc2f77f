"""Carbon and water intensity of electricity per hosting zone.

`zones.csv` is written by `scripts/make_zone_factors.py`, which names its source.
"""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import Struct

WORLD: Final = "WOR"
FACTORS_VERSION: Final = "2025"
_IMPLAUSIBLE_KG_PER_KWH: Final = 0.001
HOSTING_ZONES: Final = frozenset(
    """
    ABW AFG AGO AIA ALA ALB AND ARE ARG ARM ASM ATA ATF ATG AUS AUT AZE BDI BEL BEN BES BFA BGD BGR BHR BHS BIH
    BLM BLR BLZ BMU BOL BRA BRB BRN BTN BVT BWA CAF CAN CCK CHE CHL CHN CIV CMR COD COG COK COL COM CPV CRI CUB
    CUW CXR CYM CYP CZE DEU DJI DMA DNK DOM DZA ECU EGY ERI ESH ESP EST ETH FIN FJI FLK FRA FRO FSM GAB GBR GEO
    GGY GHA GIB GIN GLP GMB GNB GNQ GRC GRD GRL GTM GUF GUM GUY HKG HMD HND HRV HTI HUN IDN IMN IND IOT IRL IRN
    IRQ ISL ISR ITA JAM JEY JOR JPN KAZ KEN KGZ KHM KIR KNA KOR KWT LAO LBN LBR LBY LCA LIE LKA LSO LTU LUX LVA
    MAC MAF MAR MCO MDA MDG MDV MEX MHL MKD MLI MLT MMR MNE MNG MNP MOZ MRT MSR MTQ MUS MWI MYS MYT NAM NCL NER
    NFK NGA NIC NIU NLD NOR NPL NRU NZL OMN PAK PAN PCN PER PHL PLW PNG POL PRI PRK PRT PRY PSE PYF QAT REU ROU
    RUS RWA SAU SDN SEN SGP SGS SHN SJM SLB SLE SLV SMR SOM SPM SRB SSD STP SUR SVK SVN SWE SWZ SXM SYC SYR TCA
    TCD TGO THA TJK TKL TKM TLS TON TTO TUN TUR TUV TWN TZA UGA UKR UMI URY USA UZB VAT VCT VEN VGB VIR VNM VUT
    WLF WOR WSM YEM ZAF ZMB ZWE
    """.split()
)
"""ISO 3166-1 alpha-3 codes and WOR: what a provider's hosting zone may be."""
_NEIGHBOURS: Final = {
    "MCO": "FRA", "VAT": "ITA", "SMR": "ITA", "LIE": "CHE", "AND": "ESP", "ALA": "FIN",
    "IMN": "GBR", "GGY": "GBR", "JEY": "GBR", "MYT": "FRA", "MAF": "FRA", "BLM": "FRA",
}  # fmt: skip


class Zone(Struct, frozen=True):
    """Factors of the zone that is used, which may be another one than asked for."""

    code: str
    kg_per_kwh: float
    l_per_kwh: float


class Factors(Struct, frozen=True):
    """Factors of all zones that have some, of one version."""

    version: str
    zones: Mapping[str, Zone]

    def effective_zone(self, code: str) -> Zone:
        """Return the factors for a zone; of its neighbour, or else of the world, if it has none of its own."""
        return self.zones.get(code) or self.zones.get(_NEIGHBOURS.get(code, WORLD)) or self.zones[WORLD]


@cache
def current_factors() -> Factors:
    """Return the factors of zones.csv."""
    with (Path(__file__).parent / "zones.csv").open(newline="") as file:
        rows = [Zone(row["zone"], float(row["kg_per_kwh"]), float(row["l_per_kwh"])) for row in csv.DictReader(file)]
    zones = {zone.code: zone for zone in rows if zone.kg_per_kwh > _IMPLAUSIBLE_KG_PER_KWH}
    return Factors(FACTORS_VERSION, zones)


def effective_zone(code: str) -> Zone:
    """Return the factors for a zone by zones.csv."""
    return current_factors().effective_zone(code)
