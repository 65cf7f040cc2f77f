"""Write deploy/openapi.json, the API reference; with --check, fail if it is not up to date."""

import json
import sys
from pathlib import Path

from api.endpoints import ENDPOINTS
from api.openapi import build_openapi

TARGET = Path(__file__).parent.parent / "deploy" / "openapi.json"


def main() -> int:
    """Write or compare."""
    text = json.dumps(build_openapi(ENDPOINTS, title="Sluice"), indent=1, sort_keys=True) + "\n"
    if "--check" not in sys.argv:
        TARGET.write_text(text)
    elif not TARGET.exists() or TARGET.read_text() != text:
        print("deploy/openapi.json is not up to date; run: PYTHONPATH=. .venv/bin/python scripts/write_reference.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
