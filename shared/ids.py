"""Ids: 26 lower-case base32 characters that sort by time (a ULID), public with a prefix.

The database and Redis hold the bare 26 characters.  `job_X`, `chatcmpl-X`, `resp_X` and so on are one job.
"""

import os
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]
_CHARACTERS = frozenset(ALPHABET)
_LENGTH = 26
JOB_PREFIXES = ("job_", "chatcmpl-", "resp_", "batch_req_", "cmpl-", "embd-")


def new_ulid() -> str:
    """Return 48 bits of Unix ms, then 80 random bits, as 26 characters."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -10, -10)])


def oldest_ulid(instant_ms: int) -> str:
    """Return the smallest ULID of this instant: ids below it are older."""
    value = max(instant_ms, 0) << 80
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -10, -10)])


def new_id(prefix: str) -> str:
    """Return a new public id, such as `req_01j9...`; `prefix` includes its separator."""
    return prefix + new_ulid()


def parse_id(text: str, *prefixes: str) -> str | None:
    """Return the bare ULID of a public id that has one of the prefixes; None if it is not one."""
    for prefix in prefixes:
        ulid = text[len(prefix) :]
        if text.startswith(prefix) and len(ulid) == _LENGTH and _CHARACTERS.issuperset(ulid):
            return ulid
    return None
