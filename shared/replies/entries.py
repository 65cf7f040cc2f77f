"""Entries of a reply; their ids are `attempt-seq`.

The worker chooses the ids: attempt 1 writes 1-0 (started), 1-1, ..; attempt 2 writes 2-0, 2-1, ..  From that follows,
without any further bookkeeping:

* a zombie is refused by Redis itself, since an id below the last one cannot be added;
* sending again after a lost answer is harmless, for the same reason;
* a caller resumes exactly with the last id it saw (`id:` and `Last-Event-ID` of server-sent events);
* ids are dense, so a gap means that Redis lost entries, and the stored log is the answer.

One row of a stream carries all entries that were written at the same moment; its id is that of the last one.

`attempt` is the column `jobs.attempt`, which grows with every start, also after a drain; arq's own try does not.

ReplyError
├── ReplySupersededError  (writer) a later attempt writes this reply: stop working
└── ReplyLostError        (reader) entries are missing
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct, msgpack
from msgspec.structs import replace

LIFETIME_S: Final = 24 * 3600
"""A reply that is never ended is dropped this long after its first entry of an attempt."""
RETENTION_S: Final = 600
"""A reply can be followed this long after its end; later, the database has the log."""
START: Final = (0, 0)
"""Before the first entry of any attempt."""
MAX_INLINE_BYTES: Final = 256 * 1024
"""A larger body is not sent through Redis; the api reads it from the database."""


class Kind(StrEnum):
    """What an entry means."""

    STARTED = "s"
    """An attempt began; readers discard the output of earlier ones.  `data` names the parameters that were dropped."""
    CHUNK = "c"
    RETRY = "r"
    """The attempt failed, another one is planned; `data` is the JSON of the lifecycle frame."""
    END = "e"
    """The job is over and stored; `data` is an `Ending`."""


Position = tuple[int, int]
"""(attempt, seq); positions sort as Redis sorts the ids."""


class Entry(Struct, array_like=True, frozen=True):
    """One entry of a reply."""

    attempt: int
    seq: int
    kind: Kind
    data: bytes = b""

    @property
    def id(self) -> str:
        """The id as a caller sees it."""
        return f"{self.attempt}-{self.seq}"

    @property
    def position(self) -> Position:
        """Where the entry stands in its reply."""
        return self.attempt, self.seq


class Delivery(Struct, array_like=True, frozen=True):
    """Entries of one reply, on their way to an inbox."""

    job_id: str
    entries: list[Entry]


class Ending(Struct, array_like=True, frozen=True):
    """How a job ended, as its own route answers it."""

    status: str
    """Terminal status of the job."""
    http_status: int
    content_type: str
    body: bytes | None
    """None if it has to be read from the database."""
    dropped: list[str] = []
    """Parameters that the provider did not get."""


def encode_ending(ending: Ending, *, with_body: bool) -> bytes:
    """Return the data of an END entry."""
    if ending.body is not None and (not with_body or len(ending.body) > MAX_INLINE_BYTES):
        ending = replace(ending, body=None)
    return msgpack.encode(ending)


_ENDING = msgpack.Decoder(Ending)
_ENTRIES = msgpack.Decoder(list[Entry])
_DELIVERIES = msgpack.Decoder(list[Delivery])


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


def decode_entries(data: bytes) -> list[Entry]:
    """Return the entries of one row of a stream, or of a stored log; `msgpack.encode` makes it."""
    return _ENTRIES.decode(data)


def decode_deliveries(data: bytes) -> list[Delivery]:
    """Return the deliveries of one row of an inbox."""
    return _DELIVERIES.decode(data)


def position_of(entry_id: str) -> Position:
    """Return the position an id means; raises `ValueError` if a caller made it up."""
    parts = entry_id.split("-")
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) < 20 for part in parts):
        raise ValueError(f"{entry_id!r} is not an id")
    attempt, seq = int(parts[0]), int(parts[1])
    if not (attempt < 2**63 and seq < 2**63):
        raise ValueError(f"no entry can have the id {entry_id!r}")
    return attempt, seq


def id_of(position: Position) -> str:
    """Return the id of a position."""
    return f"{position[0]}-{position[1]}"


def is_next(last: Position, position: Position) -> bool:
    """Return whether nothing is missing between two entries a reader got one after the other."""
    return position[1] == last[1] + 1 if position[0] == last[0] else position[1] == 0
