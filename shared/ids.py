"""Ids: 26 lower-case base32 characters that sort by time (a ULID), public with a prefix.

The database and Redis hold the bare 26 characters.  `job_X`, `chatcmpl-X`, `resp_X` and so on are one job.
"""

import os
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]
_CHARACTERS = frozenset(ALPHABET)
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_LENGTH = 26
_BYTES, _AT_ONCE = 10, 256
_RANDOM: list[bytes] = []
"""Not yet used: asking the system gives up the lock of the interpreter, which a thread that commits may then hold."""
os.register_at_fork(after_in_child=_RANDOM.clear)
JOB_PREFIXES = ("job_", "chatcmpl-", "resp_", "batch_req_", "cmpl-", "embd-")


def new_ulid() -> str:
    """Return 48 bits of Unix ms, then 80 random bits, as 26 characters."""
    try:
        random = _RANDOM.pop()
    except IndexError:
        fresh = os.urandom(_BYTES * _AT_ONCE)
        _RANDOM.extend(fresh[place : place + _BYTES] for place in range(_BYTES, len(fresh), _BYTES))
        random = fresh[:_BYTES]
    return _encode((time.time_ns() // 1_000_000 << 80) | int.from_bytes(random, "big"))


def oldest_ulid(instant_ms: int) -> str:
    """Return the smallest ULID of this instant: ids below it are older."""
    return _encode(max(instant_ms, 0) << 80)


def ulid_ms(ulid: str) -> int:
    """Return when a ULID was made."""
    return _decode(ulid) >> 80


def shifted_ulid(ulid: str, by: int) -> str:
    """Return the ULID this far from another one: ids of the parts of what has that one."""
    return _encode(_decode(ulid) + by)


def _decode(ulid: str) -> int:
    value = 0
    for character in ulid:
        value = value << 5 | _VALUES[character]
    return value


def _encode(value: int) -> str:
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
