"""Secrets on their way in: arguments of processes can be read by others."""

import getpass
import sys


def ask_secret(what: str) -> str:
    """Return what is typed at the terminal unseen, or else the next line of the input."""
    if sys.stdin.isatty():
        return getpass.getpass(f"{what}: ")
    return sys.stdin.readline().rstrip("\r\n")
