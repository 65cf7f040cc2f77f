"""Names of organizations, users, keys and providers, as they are today.  Nothing here commits."""

from collections.abc import Iterable
from typing import Any, Final

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.keys.tables import KeyRow
from shared.organizations.tables import OrganizationRow
from shared.providers.tables import ProviderRow
from shared.users.emails import has_email
from shared.users.schemas import MASTER_EMAIL
from shared.users.tables import UserRow

_COLUMNS: Final[dict[str, tuple[Any, Any]]] = {
    "organization": (OrganizationRow.id, OrganizationRow.name),
    "user": (UserRow.id, UserRow.email),
    "key": (KeyRow.id, KeyRow.name),
    "provider": (ProviderRow.id, ProviderRow.model_name),
}
MOST: Final = 500
"""Ids of one statement; databases bound the parameters of a statement."""
Names = dict[int, str]
"""By id; what is gone has none."""


async def find_names(session: AsyncSession, dimension: str, ids: Iterable[int | None]) -> Names:
    """Return the names of these organizations, users (emails), keys or providers (their models)."""
    if dimension not in _COLUMNS:
        return {}
    wanted = sorted({number for number in ids if number is not None})
    number, name = _COLUMNS[dimension]
    names: Names = {0: MASTER_EMAIL} if dimension == "user" and 0 in wanted else {}
    for start in range(0, len(wanted), MOST):
        statement = select(number, name).where(col(number).in_(wanted[start : start + MOST]))
        names |= dict((await session.exec(statement)).all())
    return names


async def find_ids(session: AsyncSession, dimension: str, name: str, *conditions: Any) -> list[int]:
    """Return the ids of those with this name or email that fulfil the conditions; of more than `MOST`, one too many."""
    if dimension == "user" and name == MASTER_EMAIL and not conditions:
        return [0]  # it has no row
    number, column = _COLUMNS[dimension]
    is_it = has_email(name) if dimension == "user" else col(column) == name
    return list((await session.exec(select(number).where(is_it, *conditions).limit(MOST + 1))).all())
