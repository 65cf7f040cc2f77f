"""Fail if a source file exceeds 400 lines or a function 50.  Usage: python scripts/check_sizes.py api worker shared."""

import ast
import sys
from pathlib import Path

MAX_FILE, MAX_FUNCTION = 400, 50


def offences(path: Path) -> list[str]:
    """Return one message per offence in the file."""
    text = path.read_text()
    found = [f"{path}: {n} lines > {MAX_FILE}"] if (n := text.count("\n")) > MAX_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > MAX_FUNCTION and "migrations" not in path.parts:  # an upgrade is a list of statements
                found.append(f"{path}:{node.lineno} {node.name}: {length} lines > {MAX_FUNCTION}")
    return found


if __name__ == "__main__":
    messages = [m for root in sys.argv[1:] for p in sorted(Path(root).rglob("*.py")) for m in offences(p)]
    sys.exit("\n".join(messages) or 0)
