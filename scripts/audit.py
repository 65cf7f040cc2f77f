"""Look every locked package up in a database of known vulnerabilities: `python scripts/audit.py [LOCK] [OSV_URL]`.

Exits with 1 if one is known, or if the audit itself is out of order.  A service that cannot be asked is no fault of the
change at hand: that is said, and no failure, unless `SLUICE_AUDIT=required`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

OSV_URL = "https://api.osv.dev/v1/query"
NO_SERVICE = re.compile(
    r"^(requests\.exceptions\.\w+|pip_audit\S*ServiceError)\b|Could not connect to OSV", re.MULTILINE
)
"""How pip-audit ends without a service: the errors that it lets through, and the one that it explains."""


class NoServiceError(Exception):
    """The service did not answer, or not as such a service does."""


def audit(lock: Path, url: str) -> int:
    """Return the exit code, after what was found has been told."""
    try:
        packages = [one for pinned in once_each(lock) for one in ask(pinned, url)]
    except NoServiceError:
        return not_audited(f"the service of vulnerabilities did not answer ({url})")
    found = [(one, issue) for one in packages for issue in one.get("vulns", ())]
    for one, issue in found:
        fixed = ", ".join(issue["fix_versions"]) or "no version yet"
        print(f"{one['name']} {one['version']}: {issue['id']}, fixed in {fixed}", file=sys.stderr)
    if found:
        return 1
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if skipped or not packages:
        return not_audited(f"of {len(packages)} packages the service does not know {', '.join(skipped)}")
    print(f"{len(packages)} packages have no known vulnerability.")
    return 0


def once_each(lock: Path) -> list[str]:
    """Return the lines of the lock, also those for other platforms, in files that have each package once."""
    versions: dict[str, list[str]] = {}
    for line in lock.read_text().splitlines():
        pinned = line.partition(";")[0].strip()
        if pinned and not pinned.startswith("#"):
            versions.setdefault(pinned.partition("==")[0], []).append(pinned)
    return ["\n".join(filter(None, pins)) for pins in zip_longest(*versions.values())]


def ask(pinned: str, url: str) -> list[dict[str, Any]]:
    """Return what pip-audit says of the packages; it answers in JSON or not at all.  Raises `NoServiceError`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text(pinned)
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", str(file), "--no-deps", "--disable-pip",
            "--vulnerability-service", "osv", "--osv-url", url, "--cache-dir", folder, "--format", "json",
            "--progress-spinner", "off",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip() and NO_SERVICE.search(done.stderr):
        raise NoServiceError
    if not done.stdout.strip():
        sys.exit(f"The audit is out of order:\n{done.stderr[-2000:]}")
    answer: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return answer


def not_audited(why: str) -> int:
    """Say so as loudly as a terminal can; returns 1 if that must not be."""
    print(f"WARNING: NOTHING WAS AUDITED: {why}.", file=sys.stderr)
    return 1 if os.environ.get("SLUICE_AUDIT") == "required" else 0


if __name__ == "__main__":
    sys.exit(audit(Path((sys.argv[1:] or ["requirements.lock"])[0]), (sys.argv[2:] or [OSV_URL])[0]))
