"""Questions to whoever sits at the terminal."""

import getpass
import sys

from client import ClientError


def ask_secret(what: str) -> str:
    """Return what is typed unseen, or else the next line of the input: others can read the arguments of a process."""
    if sys.stdin.isatty():
        return getpass.getpass(f"{what}: ")
    return sys.stdin.readline().rstrip("\r\n")


def is_confirmed(question: str) -> bool:
    """Return whether the answer is yes; raises `ClientError` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise ClientError(f"{question} Nobody can be asked here: pass --yes.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
