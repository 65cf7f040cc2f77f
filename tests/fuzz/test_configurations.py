"""What operators write: settings, configurations of other gateways, intensities, vocabularies."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.carbon.intensity import HOUR_MS, Intensities
from shared.settings import Settings, SettingsError, load_settings
from shared.vocabularies import VocabularyError, check_vocabulary, cut_inputs
from tests.fuzz.profile import FUZZED
from tests.fuzz.strategies import broken, faulty

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/cli"))
import configs  # noqa: E402
import from_litellm  # noqa: E402
import from_opengatellm  # noqa: E402
from plans import ConfigError, Plan  # noqa: E402

FOLDER: Final = ROOT / "tests/data/configs"
LITELLM: Final = (FOLDER / "litellm.yaml").read_bytes()
OPENGATELLM: Final = (FOLDER / "opengatellm.yml").read_bytes()
NOTHING: Final[dict[str, str]] = {}


def hold(plan: Plan) -> None:
    for name, router in plan.routers.items():
        assert router.name == name
        assert all(isinstance(one.body, dict) for one in router.providers)
    assert all(isinstance(text, str) for pair in (*plan.left_out, *plan.missing) for text in pair)


@FUZZED
@given(faulty(yaml.safe_load(LITELLM)))
def test_configurations_of_litellm(document: Any) -> None:
    if isinstance(document, dict):
        with suppress(ConfigError):
            hold(from_litellm.read(document, NOTHING))


@FUZZED
@given(faulty(yaml.safe_load(OPENGATELLM)))
def test_configurations_of_opengatellm(document: Any) -> None:
    if isinstance(document, dict):
        with suppress(ConfigError):
            hold(from_opengatellm.read(document, NOTHING))


YAML_PIECES: Final = (
    b"2001-99-99", b"!!int a", b"!!python/object:os.system x", b"&a [*a]", b"? [a]", b"{" * 2000, b"<<: 1", b"0x",
    b"1:99", b"!!timestamp x", b"!!binary \xff", b"- " * 1000, b"\t",
)  # fmt: skip


@FUZZED
@given(st.data())
def test_files_of_configurations(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    written = data.draw(broken(st.sampled_from([LITELLM, OPENGATELLM, b"a: ", b"- ", b""])))
    place = data.draw(st.integers(0, len(written)))
    written = written[:place] + data.draw(st.sampled_from([b"", *YAML_PIECES])) + written[place:]
    file = tmp_path_factory.getbasetemp() / "config.yaml"
    file.write_bytes(written)

    with suppress(ConfigError):
        assert isinstance(configs.load(file), dict)


NAMES: Final = [f"SLUICE_{name.upper()}" for name in Settings.__struct_fields__]
URLS: Final = st.sampled_from(
    ["redis://h:1/0", "http://[", "https://h:x", "unix:///a", "postgresql://u:p@h/d", "file:///", "s3://b/p"]
)
VALUES: Final = URLS | st.text(max_size=12) | st.sampled_from(
    ["1", "-1", "0.5", "nan", "inf", "1e999", "9" * 5000, "true", "10.0.0.0/8,x", "10.0.0.1/8", "15m,1h", "\udcff",
     "a" * 300]
)  # fmt: skip


@FUZZED
@given(st.dictionaries(st.sampled_from([*NAMES, "SLUICE_", "SLUICE_X", "PATH"]), VALUES, max_size=3))
def test_settings(environ: dict[str, str]) -> None:
    with suppress(SettingsError):
        found = load_settings(environ)
        assert 1 <= found.port <= 65535
        assert found.lease_s >= 1
        assert found.effective_database_url()


INTENSITIES: Final = (
    b"zone,start_utc,g_per_kwh,kind\nFRA,2026-11-01T00:00:00Z,50,measured\nDEU,2026-11-01T01:00,400.5,forecast\n",
    b"zone,start_utc,g_per_kwh\nFRA,0001-01-01T00:00:00+23:59,1\nFRA,9999-12-31T23:59:59-23:59,1\n",
    b"zone,start_utc,g_per_kwh\nFRA\n", b'zone,start_utc,g_per_kwh\n"FRA', b"zone\n\xff\n", b"",
)  # fmt: skip


@FUZZED
@given(broken(st.sampled_from(INTENSITIES)))
def test_intensities(tmp_path_factory: pytest.TempPathFactory, written: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "intensities.csv"
    file.write_bytes(written)
    intensities = Intensities(str(file))

    intensities.refresh()

    known = [intensities.at(zone, 1_793_491_200_000 + hour * HOUR_MS) for zone in ("FRA", "DEU") for hour in range(3)]
    assert all(value is None or value >= 0 for value in known)


@FUZZED
@given(broken(st.just(b"aGVsbG8= 0\nIHdvcmxk 1\nw6k= 3\n")), st.text(max_size=20))
async def test_vocabularies(tmp_path_factory: pytest.TempPathFactory, written: bytes, text: str) -> None:
    folder = tmp_path_factory.mktemp("vocabularies")
    (folder / "own.tiktoken").write_bytes(written)
    try:
        await check_vocabulary("own", folder)
    except VocabularyError:
        return

    [cut] = await cut_inputs("own", folder, [text], 3)
    assert text.startswith(str(cut))
