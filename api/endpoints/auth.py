"""POST /v1/auth/login: a password for a key."""

from typing import Final

from api.call import Call
from api.client_address import address_of
from api.http import Routes
from api.new_keys import new_key_row
from api.trim import trimmed
from shared.account_errors import InvalidPasswordError, PasswordNotSetError
from shared.clock import now_ms
from shared.errors import NotFoundError, OverloadedError, QueueUnavailableError, RateLimitError
from shared.keys.queries import delete_login_keys, insert_key
from shared.keys.schemas import LOGIN_KEY
from shared.users.queries import find_user, lock_user
from shared.users.schemas import MASTER_EMAIL, Login, LoginRequest
from shared.users.tables import UserRow

routes = Routes("Auth")
_NAME: Final = "playground"


@routes.post(
    "/v1/auth/login", right=None,
    raises=(InvalidPasswordError, PasswordNotSetError, RateLimitError, OverloadedError, QueueUnavailableError),
)  # fmt: skip
async def login(call: Call, body: LoginRequest) -> Login:
    """Exchange email and password for a key of an hour, which replaces that of the last login.

    An unknown email and a wrong password are answered alike.  After 10 failures within 15 minutes, for an email or
    from an address, the answer is 429.
    """
    email = trimmed(body.email, "email")
    user = await _check(call, email, body.password)
    if user is None:
        return Login(id=0, key=body.password, token=body.password)
    lifetime_ms = call.state.settings.login_key_duration_s * 1000
    key, secret = new_key_row(user.id or 0, _NAME, expires_ms=now_ms() + lifetime_ms, kind=LOGIN_KEY)
    async with call.state.database.transaction() as session:
        try:
            row = await lock_user(session, key.user_id)
        except NotFoundError as error:
            raise InvalidPasswordError from error
        if row.password_hash != user.password_hash:  # changed while we were calculating
            raise InvalidPasswordError
        await delete_login_keys(session, key.user_id)
        await insert_key(session, key)
    await call.state.directory.refresh()
    return Login(id=key.id or 0, key=secret, token=secret)


async def _check(call: Call, email: str, password: str) -> UserRow | None:
    """Return the account whose password this is, None for the master; every refusal takes the same work."""
    passwords = call.state.passwords
    async with passwords.attempt(email, address_of(call.request)):
        async with call.state.database.read() as session:
            user = await find_user(session, email)
        is_right = await passwords.verify(None if user is None else user.password_hash, password)
        if email == MASTER_EMAIL and call.state.keys.is_master_key(password):
            return None
        if user is None or not is_right:
            raise PasswordNotSetError if user is not None and user.password_hash is None else InvalidPasswordError
    return user
