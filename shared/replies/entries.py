"""Entries of a reply; their ids are `attempt-seq`.

The worker chooses the ids: attempt 1 writes 1-0 (started), 1-1, ..; attempt 2 writes 2-0, 2-1, ..  From that follows,
without any further bookkeeping:

* a zombie is refused by Redis itself, since an id below the last one cannot be added;
* sending again after a lost answer is harmless, for the same reason;
* a caller resumes exactly with the last id it saw (`id:` and `Last-Event-ID` of server-sent events);
* ids are dense, so a gap means that Redis lost entries, and the stored log is the answer.

`attempt` is the column `jobs.attempt`, which grows with every start, also after a drain; arq's own try does not.

ReplyError
├── ReplySupersededError  (writer) a later attempt writes this reply: stop working
└── ReplyLostError        (reader) entries are missing
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct, msgpack

LIFETIME_S: Final = 24 * 3600
"""A reply that is never ended is dropped this long after its first entry of an attempt."""
RETENTION_S: Final = 600
"""A reply can be followed this long after its end; later, the database has the log."""
START: Final = "0-0"
"""Before the first entry of any attempt."""
MAX_INLINE_BYTES: Final = 256 * 1024
"""A larger body is not sent through Redis; the api reads it from the database."""


class Kind(StrEnum):
    """What an entry means."""

    STARTED = "s"
    """An attempt began; readers discard the output of earlier ones."""
    CHUNK = "c"
    RETRY = "r"
    """The attempt failed, another one is planned; `data` is the JSON of the lifecycle frame."""
    END = "e"
    """The job is over and stored; `data` is an `Ending`."""


class Entry(Struct, frozen=True):
    """One entry of a reply."""

    id: str
    kind: Kind
    data: bytes = b""


class Ending(Struct, array_like=True, frozen=True):
    """How a job ended, as its own route answers it."""

    status: str
    """Terminal status of the job."""
    http_status: int
    content_type: str
    body: bytes | None
    """None if it has to be read from the database."""


def encode_ending(ending: Ending, *, with_body: bool) -> bytes:
    """Return the data of an END entry."""
    if ending.body is not None and (not with_body or len(ending.body) > MAX_INLINE_BYTES):
        ending = Ending(ending.status, ending.http_status, ending.content_type, None)
    return msgpack.encode(ending)


_ENDING = msgpack.Decoder(Ending)


def decode_ending(data: bytes) -> Ending:
    """Return the ending inside an END entry."""
    return _ENDING.decode(data)


class ReplyError(Exception):
    """Base of the errors of this package."""


class ReplySupersededError(ReplyError):
    """A later attempt of the job writes this reply now."""


class ReplyLostError(ReplyError):
    """Redis lost a part of the reply."""


def reply_key(job_id: str) -> str:
    """Return the key of the reply stream of a job."""
    return f"sluice:reply:{job_id}"


def inbox_key(process: str) -> str:
    """Return the key of the inbox of an api process."""
    return f"sluice:inbox:{process}"


def checked_id(entry_id: str) -> str:
    """Return the id as the streams spell it; raises `ValueError` if a caller made it up."""
    parts = entry_id.split("-")
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) < 20 for part in parts):
        raise ValueError(f"{entry_id!r} is not an id")
    attempt, seq = order(entry_id)
    if not (0 <= attempt < 2**63 and 0 <= seq < 2**63):
        raise ValueError(f"no entry can have the id {entry_id!r}")
    return f"{attempt}-{seq}"


def order(entry_id: str) -> tuple[int, int]:
    """Return (attempt, seq), which sort as Redis sorts the ids."""
    attempt, _, seq = entry_id.partition("-")
    return int(attempt), int(seq)


def is_next(last_id: str, entry_id: str) -> bool:
    """Return whether nothing is missing between two ids a reader got one after the other."""
    (last_attempt, last_seq), (attempt, seq) = order(last_id), order(entry_id)
    return seq == last_seq + 1 if attempt == last_attempt else seq == 0
