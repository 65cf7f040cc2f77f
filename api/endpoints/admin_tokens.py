"""/v1/admin/tokens: API keys of users."""

from api.call import Call
from api.http import Routes
from api.trim import trimmed
from shared.clock import now_ms, to_seconds
from shared.errors import InvalidFieldError, NotFoundError
from shared.keys.queries import delete_key, get_key, insert_key, list_keys
from shared.keys.schemas import CreateTokenRequest, ListTokensQuery, NewKey, Token, TokenOwnerQuery
from shared.keys.tables import KeyRow
from shared.lists import ListPage, RowId
from shared.secrets import hash_key, mask, new_api_key
from shared.users.tables import UserRow

routes = Routes("Admin: tokens")


@routes.post("/v1/admin/tokens", right="admin", status=201, raises=(NotFoundError,))
async def create_token(call: Call, body: CreateTokenRequest) -> NewKey:
    """Create a key of a user; the secret is shown this one time."""
    now, secret = now_ms(), new_api_key()
    if body.expires is not None and not now < body.expires * 1000 < 2**62:
        raise InvalidFieldError(["body", "expires"], "Wrong timestamp, must be in the future.")
    row = KeyRow(
        name=trimmed(body.name, "name"),
        user_id=body.user,
        hash=hash_key(secret),
        masked=mask(secret),
        expires_ms=None if body.expires is None else body.expires * 1000,
        created_ms=now,
    )
    async with call.state.database.transaction() as session:
        if await session.get(UserRow, body.user) is None:
            raise NotFoundError("User not found.")
        await insert_key(session, row)
    return NewKey(id=row.id or 0, token=secret, key=secret)


@routes.get("/v1/admin/tokens", right="admin")
async def list_tokens(call: Call, query: ListTokensQuery) -> ListPage[Token]:
    """List keys, ordered by id, name or created; expired ones included."""
    async with call.state.database.read() as session:
        rows, total = await list_keys(session, query, query.user)
    return ListPage(data=[_to_token(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/tokens/{token}", right="admin", raises=(NotFoundError,))
async def get_token(call: Call, token: RowId) -> Token:
    """Get a key without its secret."""
    async with call.state.database.read() as session:
        return _to_token(await get_key(session, token, None))


@routes.delete("/v1/admin/tokens/{token}", right="admin", status=204, raises=(NotFoundError,))
async def delete_token(call: Call, token: RowId, query: TokenOwnerQuery) -> None:
    """Delete a key; it stops working in every process within a second."""
    async with call.state.database.transaction() as session:
        await delete_key(session, await get_key(session, token, query.user))
    await call.state.directory.refresh()


def _to_token(row: KeyRow) -> Token:
    return Token(
        id=row.id or 0,
        name=row.name,
        token=row.masked,
        user=row.user_id,
        expires=to_seconds(row.expires_ms),
        created=row.created_ms // 1000,
    )
