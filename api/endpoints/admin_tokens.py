"""/v1/admin/tokens: API keys of users."""

from api.audit import audit
from api.call import Call
from api.http import Routes
from api.new_keys import make_key, to_token
from api.once import keep_answer
from shared.account_errors import ExpirationTooFarError
from shared.errors import NotFoundError
from shared.keys.queries import get_key, insert_key, list_keys
from shared.keys.schemas import CreateTokenRequest, ListTokensQuery, NewKey, Token, TokenOwnerQuery
from shared.lists import ListPage, RowId
from shared.subscriptions.queries import delete_key_and_belongings
from shared.users.queries import get_user

routes = Routes("Admin: tokens")


@routes.post("/v1/admin/tokens", right="admin", status=201, raises=(NotFoundError, ExpirationTooFarError))
async def create_token(call: Call, body: CreateTokenRequest) -> NewKey:
    """Create a key of a user; the secret is shown this one time."""
    row, secret = make_key(call.state.settings, body.user, body)
    async with call.state.database.transaction() as session:
        await get_user(session, body.user)
        await insert_key(session, row)
        audit(session, call, "token.create", "token", row.id or 0, None, to_token(row))
        return await keep_answer(session, call, NewKey(id=row.id or 0, token=secret, key=secret))


@routes.get("/v1/admin/tokens", right="admin")
async def list_tokens(call: Call, query: ListTokensQuery) -> ListPage[Token]:
    """List keys, ordered by id, name or created; expired ones included."""
    async with call.state.database.read() as session:
        rows, total = await list_keys(session, query, query.user)
    return ListPage(data=[to_token(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/tokens/{token}", right="admin", raises=(NotFoundError,))
async def get_token(call: Call, token: RowId) -> Token:
    """Get a key without its secret."""
    async with call.state.database.read() as session:
        return to_token(await get_key(session, token, None))


@routes.delete("/v1/admin/tokens/{token}", right="admin", status=204, raises=(NotFoundError,))
async def delete_token(call: Call, token: RowId, query: TokenOwnerQuery) -> None:
    """Delete a key; it stops working in every process within a second."""
    async with call.state.database.transaction() as session:
        row = await get_key(session, token, query.user)
        audit(session, call, "token.delete", "token", token, to_token(row), None)
        await delete_key_and_belongings(session, row)
    await call.state.directory.refresh()
