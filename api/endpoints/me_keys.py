"""/v1/me/keys: one's own API keys."""

from api.audit import audit
from api.call import Call
from api.http import Routes
from api.new_keys import make_key, to_token
from api.once import keep_answer
from shared.account_errors import ExpirationTooFarError
from shared.clock import to_seconds
from shared.errors import NotFoundError
from shared.keys.queries import get_key, insert_key, list_keys
from shared.keys.schemas import CreateKeyRequest, Key, NewKey
from shared.keys.tables import KeyRow
from shared.lists import ListPage, ListQuery, RowId
from shared.subscriptions.queries import delete_key_and_belongings
from shared.users.queries import get_user

routes = Routes("Me")


@routes.post("/v1/me/keys", status=201, raises=(NotFoundError, ExpirationTooFarError))
async def create_my_key(call: Call, body: CreateKeyRequest) -> NewKey:
    """Create a key of one's own; the secret is shown this one time."""
    row, secret = make_key(call.state.settings, call.caller.user_id, body)
    async with call.state.database.transaction() as session:
        await get_user(session, call.caller.user_id)  # the master has none
        await insert_key(session, row)
        audit(session, call, "token.create", "token", row.id or 0, None, to_token(row))
        return await keep_answer(session, call, NewKey(id=row.id or 0, token=secret, key=secret))


@routes.get("/v1/me/keys")
async def list_my_keys(call: Call, query: ListQuery) -> ListPage[Key]:
    """List one's keys, ordered by id, name or created; expired ones included."""
    async with call.state.database.read() as session:
        rows, total = await list_keys(session, query, call.caller.user_id)
    return ListPage(data=[_to_key(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/me/keys/{key}", raises=(NotFoundError,))
async def get_my_key(call: Call, key: RowId) -> Key:
    """Get a key of one's own without its secret."""
    async with call.state.database.read() as session:
        return _to_key(await get_key(session, key, call.caller.user_id))


@routes.delete("/v1/me/keys/{key}", status=204, raises=(NotFoundError,))
async def delete_my_key(call: Call, key: RowId) -> None:
    """Delete a key of one's own, also the one in use; it stops working in every process within a second."""
    async with call.state.database.transaction() as session:
        row = await get_key(session, key, call.caller.user_id)
        audit(session, call, "token.delete", "token", key, to_token(row), None)
        await delete_key_and_belongings(session, row)
    await call.state.directory.refresh()


def _to_key(row: KeyRow) -> Key:
    token = to_token(row)
    return Key(
        id=token.id, name=token.name, token=token.token, expires=to_seconds(row.expires_ms), scopes=token.scopes,
        dialect=token.dialect, last_used_at=token.last_used_at, created=token.created,
    )  # fmt: skip
