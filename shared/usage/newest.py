"""Which record of an attempt counts: the one that no restatement has taken the place of."""

from typing import Any, Final

from sqlalchemy import literal_column
from sqlalchemy import select as sa_select
from sqlalchemy.orm import aliased
from sqlmodel import col

from shared.usage.tables import UsageRecordRow

_NEWER: Final = aliased(UsageRecordRow)
IS_NEWEST: Final[Any] = ~(
    sa_select(col(_NEWER.id))
    .where(col(_NEWER.supersedes) == UsageRecordRow.id, col(_NEWER.supersedes) != literal_column("''"))
    .exists()
)
"""Condition on `usage_records`; the literal is that of the index, which has restatements only."""
