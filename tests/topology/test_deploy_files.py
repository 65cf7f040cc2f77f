"""The files of deploy/ are what their readers take, and agree with the settings they name."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Final, Literal

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from msgspec import Struct, convert, structs

from api.endpoints import ENDPOINTS
from shared.settings import Settings
from tests.faults.processes import ROOT

DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = "1.31"
TEMPLATES: Final = ("sluice-api@8080.service", "sluice-worker@1.service")
SETTING: Final = re.compile(r"SLUICE_[A-Z0-9_]+")
GIB: Final = 2**30
STOP_MARGIN_S: Final = 10.0
"""What the supervisor gives each group of its children beyond what they need to drain."""
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


def test_every_process_of_the_compose_files_knows_both_shards_and_each_shard_has_workers() -> None:
    first, more = (yaml.safe_load((DEPLOY / name).read_text()) for name in ("compose.yaml", "compose.shards.yaml"))
    PyCompose.from_json(json.dumps(more)).validate()

    processes = {name for name, one in first["services"].items() if one.get("image") == first["x-sluice"]["image"]}
    shards = {name: one.get("environment", {}) for name, one in more["services"].items() if name != "valkey-1"}
    assert processes < shards.keys()
    assert {one["SLUICE_SHARD_REDIS_URLS"] for one in shards.values()} == {
        first["x-sluice"]["environment"]["SLUICE_REDIS_URL"].replace("valkey", "valkey-1")
    }
    assert Counter(one.get("SLUICE_SHARD") for one in shards.values()) == {None: 3, "0": 2, "1": 2}
    for one in more["services"].values():
        if "extends" in one:
            assert one["extends"]["file"] == "compose.yaml"
            assert one["extends"]["service"] in first["services"]
    assert more["services"]["migrate"]["depends_on"]["valkey-1"]["condition"] == "service_healthy"


class ScaleTarget(Struct, forbid_unknown_fields=True):
    """See https://keda.sh/docs/latest/reference/scaledobject-spec/."""

    name: str


class PrometheusQuery(Struct, forbid_unknown_fields=True, rename="camel"):
    """See https://keda.sh/docs/latest/scalers/prometheus/; every value is text."""

    server_address: str
    query: str
    threshold: str


class Trigger(Struct, forbid_unknown_fields=True, rename="camel"):
    type: Literal["prometheus"]
    metric_type: Literal["AverageValue", "Value"]
    """Always said: `AverageValue` wants metric / threshold workers, `Value` workers there are x metric / threshold."""
    metadata: PrometheusQuery


class Scaling(Struct, forbid_unknown_fields=True, rename="camel"):
    """What KEDA takes, as far as it is used."""

    scale_target_ref: ScaleTarget
    min_replica_count: int
    max_replica_count: int
    cooldown_period: int
    triggers: list[Trigger]


def check_manifest(document: dict[str, Any]) -> None:
    """Raise an error if Kubernetes or KEDA would not take it."""
    if document["kind"] == "ScaledObject":
        assert document["apiVersion"] == "keda.sh/v1alpha1"
        scaling = convert(document["spec"], Scaling)
        assert 0 < scaling.min_replica_count < scaling.max_replica_count
        assert scaling.scale_target_ref.name == document["metadata"]["name"]
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


MANIFESTS: Final = [path for path in (DEPLOY / "kubernetes").rglob("*.yaml") if path.name != "kustomization.yaml"]


@pytest.mark.parametrize("path", sorted(MANIFESTS), ids=lambda path: path.name)
def test_kubernetes_takes_the_manifests(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))

    for document in documents:
        check_manifest(document)
    assert documents


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl with kustomize 5")
@pytest.mark.parametrize("is_sharded", [False, True])
def test_kustomize_makes_an_installation_whose_parts_fit_together(tmp_path: Path, *, is_sharded: bool) -> None:
    folder = shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    shutil.copy(folder / "secrets.example.env", folder / "secrets.env")
    if is_sharded:
        listing = folder / "kustomization.yaml"
        listing.write_text(listing.read_text().replace("# - shard-1", "- shard-1"))
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False
    )  # of the system
    assert (done.returncode, done.stderr) == (0, "")

    made = list(yaml.safe_load_all(done.stdout))

    for document in made:
        check_manifest(document)
    names = {(one["kind"], one["metadata"]["name"]) for one in made}
    assert len(names) == len(made)
    shards = {}
    for one in made:
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "sluice"
        if one["kind"] == "Deployment":
            template, pod = one["spec"]["template"], one["spec"]["template"]["spec"]
            assert one["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
            for container in (*pod["initContainers"], *pod["containers"]):
                sources = [(kind, of["name"]) for source in container["envFrom"] for kind, of in source.items()]
                kinds = {"configMapRef": "ConfigMap", "secretRef": "Secret"}
                assert all((kinds[kind], name) in names for kind, name in sources)
                assert container["image"] == _image()
            if template["metadata"]["labels"]["part"] == "worker":
                shards[one["metadata"]["name"]] = template["metadata"]["labels"]["shard"]
    assert shards == ({"worker": "0", "worker-1": "1"} if is_sharded else {"worker": "0"})
    asked = {
        one["metadata"]["name"]: [trigger["metadata"]["query"] for trigger in one["spec"]["triggers"]]
        for one in made
        if one["kind"] == "ScaledObject"
    }
    assert asked.keys() == shards.keys()
    for name, queries in asked.items():
        assert queries == [re.sub(r'shard="\d+"', f'shard="{shards[name]}"', query) for query in asked["worker"]]


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_pod_migrates_before_its_process_starts(part: str) -> None:
    pod = _pod(part)
    (migrate,), (process,) = pod["initContainers"], pod["containers"]

    assert migrate["command"] == ["python", "-m", "worker.maintenance", "migrate"]
    assert process["command"] == ["python", "-m", part]
    for same in ("image", "envFrom", "securityContext", "volumeMounts"):
        assert migrate[same] == process[same]
    kinds = [one["kind"] for path in MANIFESTS for one in yaml.safe_load_all(path.read_text())]
    assert "Job" not in kinds  # its template cannot be changed by a second apply, and nothing would wait for it


def test_every_part_may_end_longer_than_its_jobs_need_to_drain() -> None:
    pods = [(_settings_of_pods(), _pod(part)["terminationGracePeriodSeconds"]) for part in ("api", "worker")]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    containers = [
        (services[name]["environment"], float(services[name]["stop_grace_period"].removesuffix("s")))
        for name in ("api-1", "api-2", "worker-1", "worker-2")
    ]

    for settings, ends_s in (*pods, *containers):
        drain_s = float(settings["SLUICE_DRAIN_S"])
        assert drain_s >= Settings().job_timeout_s
        assert ends_s > float(settings["SLUICE_LEAVE_S"]) + drain_s
    drain_s = Settings().leave_s + Settings().drain_s
    for name, needed_s in {
        "sluice-api@": drain_s,
        "sluice-worker@": drain_s,
        "sluice": 2 * (drain_s + STOP_MARGIN_S) + STOP_MARGIN_S,
    }.items():
        unit = (DEPLOY / "systemd" / f"{name}.service").read_text()
        (ends_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
        assert float(ends_s) > needed_s, name


def test_what_a_probe_asks_for_is_served_to_everybody() -> None:
    served = {one.path for one in ENDPOINTS if one.method == "GET" and one.right is None}
    (process,) = _pod("api")["containers"]
    probes = {name: process[name]["httpGet"]["path"] for name in ("readinessProbe", "livenessProbe", "startupProbe")}

    assert set(probes.values()) <= served
    assert probes["livenessProbe"] == probes["startupProbe"] != probes["readinessProbe"]


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_pod_has_the_memory_that_its_parsers_may_take(part: str) -> None:
    (process,) = _pod(part)["containers"]
    limit = process["resources"]["limits"]["memory"]
    settings = _settings_of_pods()

    parsers = int(settings["SLUICE_DOCUMENT_PARSING_MAX_CONCURRENT"])
    free = int(limit.removesuffix("Gi")) * GIB - parsers * int(settings["SLUICE_DOCUMENT_PARSING_MEMORY_BYTES"])
    assert free >= GIB  # for the process itself


def test_workers_are_as_many_as_run_and_wait_and_more_while_a_caller_waits() -> None:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "worker" / "worker.yaml").read_text())
    (scaled,) = [one for one in documents if one["kind"] == "ScaledObject"]
    depth, age = convert(scaled["spec"], Scaling).triggers

    assert depth.metric_type == "AverageValue"
    assert all(name in depth.metadata.query for name in ("sluice_queue_ready", "sluice_queue_jobs", 'state="held"'))
    assert 0 < int(depth.metadata.threshold) <= Settings().worker_slots
    assert "sluice_queue_oldest_seconds" in age.metadata.query
    assert age.metric_type == "Value"


def test_secrets_of_a_deployment_go_into_no_commit_and_no_image() -> None:
    secrets = ["deploy/.env", "deploy/kubernetes/secrets.env"]

    ignored = subprocess.run(["git", "check-ignore", *secrets], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ignored.stdout.split() == secrets
    assert set(secrets) <= set((ROOT / ".dockerignore").read_text().split())


def test_every_file_names_one_image_of_this_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    guide = (DEPLOY / "docs" / "operate.md").read_text()

    assert compose["x-sluice"]["image"] == f"sluice:{version}"
    assert _image() == f"registry.example/sluice:{version}"
    assert set(re.findall(r"registry\.example/\S+", guide)) == {_image()}
    assert f"docker build --file deploy/Dockerfile --tag {_image()} ." in guide
    assert f"docker push {_image()}" in guide


def test_the_image_has_the_programs_for_backups_of_the_database_of_compose() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    database = compose["services"]["postgres"]["image"].rpartition(":pg")[2]

    (client,) = re.findall(r"postgresql-client-(\d+)", (DEPLOY / "Dockerfile").read_text())

    assert int(client) >= int(database)


def test_only_settings_that_exist_are_set() -> None:
    known = {f"SLUICE_{field.name.upper()}" for field in structs.fields(Settings)} | OF_COMPOSE
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix not in (".json", ".md")]

    named = {match for path in files for match in SETTING.findall(path.read_text())}

    assert len(named) > 5
    assert named - known == set()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    folder = shutil.copytree(DEPLOY / "systemd", tmp_path / "units")
    for path in folder.glob("*.service"):
        path.write_text(path.read_text().replace("/opt/sluice/.venv/bin/python", sys.executable))
    units = [folder / "sluice.service", folder / "sluice-migrate.service"]
    for template in TEMPLATES:
        units.append(folder / template)
        units[-1].symlink_to(template.partition("@")[0] + "@.service")

    done = subprocess.run(
        ["systemd-analyze", "verify", *units],  # of the system
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


def _pod(part: str) -> dict[str, Any]:
    """Return the pod of the api or of workers."""
    path = {"api": "api.yaml", "worker": "worker/worker.yaml"}[part]
    deployment = next(iter(yaml.safe_load_all((DEPLOY / "kubernetes" / path).read_text())))
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def _settings_of_pods() -> dict[str, str]:
    return dict(literal.split("=") for literal in _kustomization()["configMapGenerator"][0]["literals"])


def _image() -> str:
    (image,) = _kustomization()["images"]
    return f"{image['newName']}:{image['newTag']}"


def _kustomization() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    return found
