"""What a query names, or gives by its id, for those who may see it."""

from typing import Any, Final, Literal, Protocol

from sqlmodel import col, select

from api.call import Call
from shared.errors import InvalidFieldError
from shared.keys.tables import KeyRow
from shared.names import MOST, find_ids
from shared.organizations.tables import OrganizationRow
from shared.users.tables import UserRow


class _Naming(Protocol):
    key: str | None
    user: str | None
    organization: str | None


_DIGITS: Final = 10
Scope = Literal["caller", "organization", "everybody"]


async def find_named(call: Call, query: _Naming, scope: Scope) -> dict[str, list[int]]:
    """Return column → ids of what the query names; raises `InvalidFieldError` if nothing in the scope has a name."""
    asked = {"key": query.key, "user": query.user, "organization": query.organization}
    if set(asked.values()) == {None}:
        return {}
    found: dict[str, list[int]] = {}
    conditions = _conditions(call, scope)
    async with call.state.database.read() as session:
        for name, text in asked.items():
            if text is None:
                continue
            ids = await find_ids(session, name, text, *conditions.get(name, ()))
            if not ids and text.isdecimal() and len(text) < _DIGITS:
                ids = [int(text)]  # of what has gone, only the id is left
            if not ids:
                raise InvalidFieldError(["query", name], f"No {name} has this name")
            if len(ids) > MOST:
                raise InvalidFieldError(["query", name], f"More than {MOST} have this name; use the id")
            found[f"{name}_id"] = ids
    return found


def _conditions(call: Call, scope: Scope) -> dict[str, tuple[Any, ...]]:
    if scope == "everybody":
        return {}
    own = col(UserRow.id) == call.caller.user_id
    if scope == "organization":
        own = col(UserRow.organization_id) == call.caller.organization_id
    return {
        "user": (own,),
        "key": (col(KeyRow.user_id).in_(select(UserRow.id).where(own)),),
        "organization": (col(OrganizationRow.id) == call.caller.organization_id,),
    }
