"""Which files are pages, and where a link between files leads."""

from functools import cache
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
INDEX: Final = "deploy/docs/index.md"
README: Final = "README.md"
REFERENCE: Final = "/docs/reference"
_FOLDER: Final = "deploy/docs"
_OPENAPI: Final = "deploy/openapi.json"


@cache
def urls() -> dict[str, str]:
    """Return file, from the root of the repository, → path under which it is served."""
    found = {README: "/docs/readme", _OPENAPI: REFERENCE}
    found |= {f"{_FOLDER}/{path.name}": f"/docs/{path.stem}" for path in (ROOT / _FOLDER).glob("*.md")}
    found |= {f"{_FOLDER}/{path.name}": f"/docs/{path.name}" for path in (ROOT / _FOLDER).glob("*.svg")}
    return found | {INDEX: "/docs"}


def file_of(url: str) -> str | None:
    """Return the file that is served under a path; None if there is none."""
    return next((file for file, path in urls().items() if path == url and file != _OPENAPI), None)


def url_of(link: str, file: str) -> str | None:
    """Return where a link of a file leads when that is a page; None if what it names is not served."""
    target, hash_sign, fragment = link.partition("#")
    if not target or target.startswith(("https://", "http://")):
        return link
    url = urls().get(normpath(join(dirname(file), target)))
    return None if url is None else url + hash_sign + fragment
