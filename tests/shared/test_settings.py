"""SLUICE_* variables."""

from pathlib import Path

import pytest

from shared.settings import Settings, SettingsError, load_settings

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def test_everything_is_optional() -> None:
    assert load_settings({"PATH": "/bin", "SLUICE_REDIS_URL": ""}) == Settings()


def test_values_are_converted_to_their_types() -> None:
    settings = load_settings({"SLUICE_PORT": "9000", "SLUICE_LEASE_S": "2.5", "SLUICE_STRICT": "true"})
    assert (settings.port, settings.lease_s, settings.strict) == (9000, 2.5, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_PROT", "8080"),
        ("SLUICE_PORT", "http"),
        ("SLUICE_PORT", "70000"),
        ("SLUICE_WORKERS", "0"),
        ("SLUICE_LOG_FORMAT", "xml"),
        ("SLUICE_ADMIN_KEY", "short"),
        ("SLUICE_DATABASE_URL", "mysql://h/d"),
        ("SLUICE_LOG_DATABASE_URL", "sqlite:///replica.db"),
        ("SLUICE_LOG_DATABASE_URL", "postgresql://replica/sluice"),  # of SQLite
        ("SLUICE_REDIS_URL", "localhost:6379"),
        ("SLUICE_UPSTREAM_URL", "localhost:11434"),
        ("SLUICE_LOG_FORMAT", "\udcff"),
    ],
)
def test_a_bad_variable_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings({name: value})


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_every_setting_is_in_the_readme(field: str) -> None:
    assert f"SLUICE_{field.upper()}" in README
