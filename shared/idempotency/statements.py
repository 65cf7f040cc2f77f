"""Hot writes on `idempotency_keys`; part of the transactions that accept a job, and that withdraw it."""

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
    http_status: int | None = None
    body: bytes | None = None
    key: str
    """As sent, for the job; not stored here."""


_COLUMNS = NewIdempotencyKey.__struct_fields__[:-1]
_INSERT = insert_sql("idempotency_keys", _COLUMNS)


def insert_idempotency_key(key: NewIdempotencyKey) -> Statement:
    """Bind a key to a job; the unit is refused if the key is bound already."""
    return Statement(_INSERT, astuple(key)[:-1])


def unbind_idempotency_key(key_id: str, job_id: str) -> Statement:
    """Forget a key that is bound to this job."""
    return Statement("DELETE FROM idempotency_keys WHERE id = $1 AND job_id = $2", (key_id, job_id))
