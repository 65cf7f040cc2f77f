"""Hot writes on `idempotency_keys`; part of the transaction that accepts a job."""

from msgspec import Struct
from msgspec.structs import astuple

from shared.group_commit.units import Statement, insert_sql


class NewIdempotencyKey(Struct, kw_only=True):
    """Fields are named as their columns, see `shared.idempotency.tables`."""

    id: str
    fingerprint: str
    job_id: str
    prefers: str
    expires_ms: int
    key: str
    """As sent, for the job; not stored here."""


_COLUMNS = NewIdempotencyKey.__struct_fields__[:-1]
_INSERT = insert_sql("idempotency_keys", _COLUMNS)
_ANSWER_LATER = "UPDATE idempotency_keys SET prefers = 'async' WHERE id = $1 AND job_id = $2"


def insert_idempotency_key(key: NewIdempotencyKey) -> Statement:
    """Bind a key to a job; the unit is refused if the key is bound already."""
    return Statement(_INSERT, astuple(key)[:-1])


def answer_later(key_id: str, job_id: str) -> Statement:
    """Note that the first request with a key waited in vain and got a 202, as if it had not waited."""
    return Statement(_ANSWER_LATER, (key_id, job_id))
