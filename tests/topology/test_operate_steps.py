"""The steps of deploy/docs/operate.md come in the order that it promises, and name what deploy/ has."""

import re
import stat
import subprocess
from pathlib import Path
from typing import Final

import yaml

from tests.faults.processes import ROOT
from tests.guides import blocks_of

DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = "docker compose --file deploy/compose.yaml "
NEEDS_A_MACHINE: Final = ("useradd", "systemctl", "/opt/sluice/scripts/install")


def steps_with(words: str) -> list[str]:
    """Return the lines of the one block of commands that has these words."""
    blocks = [one.text for one in blocks_of("deploy/docs/operate.md") if one.kind == "console" and words in one.text]
    (block,) = blocks
    return block.splitlines()


def test_an_update_with_docker_migrates_and_then_replaces_workers_and_apis_one_by_one() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    image = compose["x-sluice"]["image"]
    processes = [name for name, one in compose["services"].items() if one["image"] == image and name != "migrate"]

    build, migrate, *replaced = [step.removeprefix(COMPOSE) for step in steps_with("--no-deps")]

    assert (build, migrate) == ("build", "run --rm migrate")
    assert all(step.startswith("up --no-deps --wait ") for step in replaced)
    assert [step.split()[-1] for step in replaced] == sorted(processes, key=lambda name: (name[0] != "w", name))


def test_an_update_on_kubernetes_holds_the_apis_back_until_the_workers_are_new() -> None:
    steps = steps_with("rollout pause")

    assert [step.partition("rollout ")[2] or step for step in steps] == [
        "pause deployment/api", "kubectl apply --kustomize deploy/kubernetes", "status deployment/worker",
        "resume deployment/api", "status deployment/api",
    ]  # fmt: skip


def test_an_update_with_systemd_migrates_and_then_restarts_workers_and_apis_one_by_one() -> None:
    install, *restarts = steps_with("systemctl restart sluice-migrate")

    assert install == "/opt/sluice/scripts/install"
    assert [re.sub(r"@\d+$", "", step) for step in restarts] == [
        "systemctl restart sluice-migrate",
        *["systemctl restart sluice-worker"] * 2,
        *["systemctl restart sluice-api"] * 2,
    ]
    assert len(set(restarts)) == len(restarts)


def test_the_steps_for_systemd_leave_units_settings_nobody_else_reads_and_a_data_folder(tmp_path: Path) -> None:
    steps = steps_with("useradd")
    for folder in ("etc/systemd/system", "var/lib", "opt"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "opt" / "sluice").symlink_to(ROOT)
    possible = [step for step in steps if not step.startswith(NEEDS_A_MACHINE)]
    script = re.sub(r" /", f" {tmp_path}/", "\n".join(possible)).replace("--owner=sluice ", "")

    subprocess.run(["bash", "-euc", f"umask 022\n{script}"], check=True)

    assert stat.S_IMODE((tmp_path / "etc/sluice.env").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "var/lib/sluice").stat().st_mode) == 0o700
    units = tmp_path / "etc/systemd/system"
    assert (units / "sluice.service").is_file()
    assert "EnvironmentFile=-/etc/sluice.env" in (units / "sluice.service.d" / "common.conf").read_text()
    assert [step for step in steps if step.startswith(NEEDS_A_MACHINE)] == [
        "useradd --system --home-dir /opt/sluice --shell /usr/sbin/nologin sluice",
        "/opt/sluice/scripts/install",
        "systemctl enable --now sluice",
    ]
    assert steps[-1] == "systemctl enable --now sluice"
