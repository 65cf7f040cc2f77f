"""What operators and users have in common when they change an account."""

import re
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from api.audit import audit
from api.call import Call
from api.client_address import address_of
from api.trim import trimmed
from shared.account_errors import InvalidPasswordError, PasswordNotSetError, ReservedEmailError
from shared.audit.schemas import PasswordState
from shared.clock import to_seconds
from shared.errors import InvalidFieldError
from shared.keys.queries import delete_login_keys
from shared.money import MG_PER_G, MICROS_PER_UNIT, from_integer
from shared.users.schemas import MASTER_EMAIL, User
from shared.users.tables import UserRow

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_MAX_EMAIL: Final = 254
_HIDDEN: Final = "***"


def checked_email(text: str) -> str:
    """Return the email, trimmed and in lower case; raises `ReservedEmailError` and `InvalidFieldError`."""
    email = trimmed(text, "email").lower()
    if email == MASTER_EMAIL:
        raise ReservedEmailError
    if len(email) > _MAX_EMAIL or not _EMAIL.fullmatch(email):
        raise InvalidFieldError(["body", "email"], f"Expected an email of at most {_MAX_EMAIL} characters")
    return email


def to_user(row: UserRow) -> User:
    """Return the wire form of an account."""
    return User(
        id=row.id or 0,
        email=row.email,
        name=row.name,
        sub=row.sub,
        iss=row.iss,
        role=row.role_id,
        organization=row.organization_id,
        budget=from_integer(row.budget_micros, MICROS_PER_UNIT),
        carbon_budget=from_integer(row.carbon_budget_mg, MG_PER_G),
        expires=to_seconds(row.expires_ms),
        priority=row.priority,
        created=row.created_ms // 1000,
        updated=row.updated_ms // 1000,
    )


async def next_password_hash(
    call: Call, row: UserRow, password: str | None, current: str | None, *, needs_current: bool
) -> str | None:
    """Return the hash to store; None if the password stays.  Not within a transaction: hashing takes its time.

    Raises:
        InvalidPasswordError: `current` is wrong, or missing although it is needed.
        PasswordNotSetError: `current` was given, but the account has no password.

    """
    passwords = call.state.passwords
    if current is not None:
        if row.password_hash is None:
            raise PasswordNotSetError
        async with passwords.attempt(row.email, address_of(call.request)):
            if not await passwords.verify(row.password_hash, current):
                raise InvalidPasswordError
    elif password is not None and needs_current and row.password_hash is not None:
        raise InvalidPasswordError
    return None if password is None else await passwords.hash(password)


async def store_password(session: AsyncSession, call: Call, row: UserRow, password_hash: str) -> None:
    """Replace the password; login keys made with the old one end, except the one in use."""
    before = PasswordState(password=None if row.password_hash is None else _HIDDEN)
    row.password_hash = password_hash
    await delete_login_keys(session, row.id or 0, keep=call.caller.key_id)
    audit(session, call, "user.password", "user", row.id or 0, before, PasswordState(password=_HIDDEN))
