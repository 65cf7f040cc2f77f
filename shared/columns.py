"""Column types that several tables share."""

from typing import Any, Final

from sqlalchemy import BigInteger
from sqlmodel import Field

NEVER_REUSE_IDS: Final = {"sqlite_autoincrement": True}
"""Table option: logs and ledger name rows that were deleted, so SQLite must not give their ids again."""


def bigint(**options: Any) -> Any:
    """Return a 64-bit integer column: Unix ms, micro-units of money, nano-units of energy and carbon."""
    return Field(sa_type=BigInteger, **options)
