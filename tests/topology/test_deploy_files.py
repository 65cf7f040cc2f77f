"""The files of deploy/ are what their readers take, and agree with the settings they name."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from msgspec import structs

from shared.settings import Settings
from tests.faults.processes import ROOT

DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = "1.31"
OTHERS: Final = {"ScaledObject", "Kustomization"}
"""Kinds that are not Kubernetes' own."""
SETTING: Final = re.compile(r"SLUICE_[A-Z0-9_]+")
OF_COMPOSE: Final = {"SLUICE_ADDRESS", "SLUICE_API"}
"""Read by compose.yaml and Caddyfile, not by Sluice."""


def test_the_dockerfile_has_nothing_that_hadolint_minds() -> None:
    linter = Path(sys.executable).parent / "hadolint"

    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_everything_the_dockerfile_copies_is_there() -> None:
    wanted = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)

    missing = [name for line in wanted for name in line.split() if not (ROOT / name).exists()]

    assert wanted
    assert missing == []


def test_the_compose_file_is_valid_and_has_every_part_twice() -> None:
    compose = PyCompose.from_json(json.dumps(yaml.safe_load((DEPLOY / "compose.yaml").read_text())))

    compose.validate()
    assert {"api-1", "api-2", "worker-1", "worker-2", "proxy", "postgres", "valkey"} <= set(compose.service_names())


@pytest.mark.parametrize("path", sorted((DEPLOY / "kubernetes").glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_takes_the_manifests(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))

    for document in documents:
        if document["kind"] not in OTHERS:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert documents


def test_every_part_may_end_longer_than_its_jobs_need_to_drain() -> None:
    wanted = dict(literal.split("=") for literal in _kustomization()["configMapGenerator"][0]["literals"])
    needed_s = float(wanted["SLUICE_LEAVE_S"]) + float(wanted["SLUICE_DRAIN_S"])

    for name in ("api", "worker"):
        deployment = next(iter(yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())))
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed_s


def test_only_settings_that_exist_are_set() -> None:
    known = {f"SLUICE_{field.name.upper()}" for field in structs.fields(Settings)} | OF_COMPOSE
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix not in (".json", ".md")]

    named = {match for path in files for match in SETTING.findall(path.read_text())}

    assert len(named) > 5
    assert named - known == set()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / "sluice.service").read_text()
    unit = unit.replace("/opt/sluice/.venv/bin/python", sys.executable)
    (tmp_path / "sluice.service").write_text(unit)

    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "sluice.service"],  # of the system
        capture_output=True,
        text=True,
        check=False,
    )

    told = [line for line in done.stderr.splitlines() if "sluice" in line]
    assert told == []


def test_caddy_takes_its_file(tmp_path: Path) -> None:
    if shutil.which("caddy") is None:
        pytest.skip("needs caddy (Debian: apt-get install caddy)")
    done = subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def _kustomization() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    return found
