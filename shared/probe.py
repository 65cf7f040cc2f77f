"""Is the process of this container well?  `python -m shared.probe` exits 0 or 1, for health checks of containers.

A worker is well if its `SLUICE_ALIVE_FILE` was touched lately, an api if it answers at /health.
"""

import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from shared.settings import load_settings

_OLDEST_S: Final = 15.0
_TIMEOUT_S: Final = 3.0


def is_worker_well(path: Path) -> bool:
    """Return whether the event loop of a worker turned in the last 15 seconds."""
    try:
        return time.time() - path.stat().st_mtime < _OLDEST_S
    except OSError:
        return False


def is_api_well(port: int) -> bool:
    """Return whether the api on this port says that it serves."""
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


def main() -> int:
    """Return the exit code."""
    settings = load_settings()
    alive = settings.alive_file
    return 0 if (is_worker_well(Path(alive)) if alive else is_api_well(settings.port)) else 1


if __name__ == "__main__":
    sys.exit(main())
