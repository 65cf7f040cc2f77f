"""/v1/admin/routers: public models."""

from decimal import Decimal
from typing import Any, Final

from msgspec import UNSET, json
from sqlmodel.ext.asyncio.session import AsyncSession

from api.audit import audit
from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.provider_health import health_of, worst
from api.trim import trimmed
from shared.clock import now_ms
from shared.errors import ConflictError, InvalidFieldError, NotFoundError, ProviderTypeError, QueueUnavailableError
from shared.lists import ListPage, ListQuery, RowId
from shared.models.health import RouterHealth
from shared.models.schemas import EMBEDDING_TYPES, PROVIDER_TYPES_OF, SPEECH_TYPES
from shared.routers.queries import count_providers, get_router, insert_router, list_aliases, list_provider_types
from shared.routers.queries import delete_router as remove_router
from shared.routers.queries import list_routers as query_routers
from shared.routers.queries import update_router as change_router
from shared.routers.schemas import CreateRouterRequest, DefaultParameters, Router, RouterVoice, UpdateRouterRequest
from shared.routers.tables import RouterRow
from shared.vocabularies import VocabularyError, check_vocabulary

routes = Routes("Admin: routers")
_MAX_PRICE: Final = Decimal(10**9)
_SMALLEST_PRICE: Final = Decimal("1e-12")


@routes.post("/v1/admin/routers", right="admin", status=201, raises=(NotFoundError, ConflictError))
async def create_router(call: Call, body: CreateRouterRequest) -> Router:
    """Create a router, a public model name; it can be called once it has a provider and a role has a limit for it."""
    now = now_ms()
    row = RouterRow(
        name=trimmed(body.name, "name"),
        user_id=call.caller.user_id,
        type=body.type,
        load_balancing_strategy=body.load_balancing_strategy,
        fallback_id=body.fallback,
        cache_ttl_s=body.cache_ttl,
        cache_charge=body.cache_charge,
        default_parameters=_parameters(body.default_parameters),
        display_name=None if body.display_name is None else trimmed(body.display_name, "display_name"),
        description=body.description.strip(),
        tools=body.tools,
        is_small=body.small,
        voices=_voices(body.voices),
        accepts_token_ids=_accepts_ids(body),
        token_encoding=body.token_encoding,
        price_prompt=_price(body.cost_prompt_tokens, "cost_prompt_tokens"),
        price_completion=_price(body.cost_completion_tokens, "cost_completion_tokens"),
        created_ms=now,
        updated_ms=now,
    )
    _check_voices(row)
    await _check_encoding(call, body.token_encoding)
    aliases = _aliases(body.aliases)
    async with call.state.database.transaction() as session:
        await _check_fallback(session, None, row.type, row.fallback_id)
        await insert_router(session, row, aliases)
        created = (await _to_routers(session, [row]))[0]
        audit(session, call, "router.create", "router", created.id, None, created)
        await keep_answer(session, call, created)
    await call.state.directory.refresh()
    return created


def _aliases(aliases: list[str]) -> list[str]:
    return list(dict.fromkeys(trimmed(alias, "aliases") for alias in aliases))


def _parameters(parameters: DefaultParameters | None) -> str | None:
    """Return the parameters as they are stored; None if there are none."""
    text = "{}" if parameters is None else json.encode(parameters).decode()
    return None if text == "{}" else text


def _voices(voices: list[RouterVoice] | None) -> str | None:
    """Return the voices as they are stored; raises `InvalidFieldError` if one is there twice."""
    if voices is None:
        return None
    if len({voice.id for voice in voices}) < len(voices):
        raise InvalidFieldError(["body", "voices"], "The ids of voices must differ")
    return json.encode(voices).decode()


def _accepts_ids(body: CreateRouterRequest) -> bool:
    """Return the usual: ids for a model that writes are its own, those for one that embeds are OpenAI's."""
    return body.type not in EMBEDDING_TYPES if body.accepts_token_ids is None else body.accepts_token_ids


async def _check_encoding(call: Call, name: str | None) -> None:
    if name is not None:
        try:
            await check_vocabulary(name, call.state.settings.vocabulary_path)
        except VocabularyError as error:
            raise InvalidFieldError(["body", "token_encoding"], str(error)) from error


def _check_voices(row: RouterRow) -> None:
    if row.voices is not None and row.type not in SPEECH_TYPES:
        raise InvalidFieldError(["body", "voices"], f"A {row.type} router has no voices")


def _price(price: Decimal, name: str) -> str:
    """Return the price as it is stored; raises `InvalidFieldError`."""
    if not price.is_finite() or not 0 <= price <= _MAX_PRICE:
        raise InvalidFieldError(["body", name], f"Expected a number from 0 to {_MAX_PRICE}")
    if price != price.quantize(_SMALLEST_PRICE):
        raise InvalidFieldError(["body", name], "Expected at most 12 decimals")
    return format(price.normalize(), "f")


@routes.get("/v1/admin/routers", right="admin")
async def list_routers(call: Call, query: ListQuery) -> ListPage[Router]:
    """List routers, ordered by id, name or created."""
    async with call.state.database.read() as session:
        rows, total = await query_routers(session, query)
        data = await _to_routers(session, rows)
    return ListPage(data=data, total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/routers/{router_id}", right="admin", raises=(NotFoundError,))
async def get_admin_router(call: Call, router_id: RowId) -> Router:
    """Get a router."""
    async with call.state.database.read() as session:
        return (await _to_routers(session, [await get_router(session, router_id)]))[0]


@routes.get("/v1/admin/routers/{router_id}/health", right="admin", raises=(NotFoundError, QueueUnavailableError))
async def get_router_health(call: Call, router_id: RowId) -> RouterHealth:
    """Get how the providers of a router are: breaker, attempts that run, figures of the last two minutes."""
    router = await call.state.directory.find_router_by_id(router_id)
    if router is None:
        raise NotFoundError(f"Model router {router_id} not found.")
    providers = (await health_of(call, [router]))[router.id]
    return RouterHealth(id=router.id, name=router.name, status=worst(providers), providers=providers)


@routes.patch("/v1/admin/routers/{router_id}", right="admin", raises=(NotFoundError, ConflictError, ProviderTypeError))
async def update_router(call: Call, router_id: RowId, body: UpdateRouterRequest) -> Router:
    """Change a router; new prices hold for jobs accepted afterwards."""
    changes = _changes(body)
    await _check_encoding(call, changes.get("token_encoding"))
    aliases = None if body.aliases is None else _aliases(body.aliases)
    async with call.state.database.transaction() as session:
        row = await get_router(session, router_id)
        before = (await _to_routers(session, [row]))[0]
        for kind in await list_provider_types(session, router_id) if body.type is not None else ():
            if kind not in PROVIDER_TYPES_OF[body.type or row.type]:
                raise ProviderTypeError(f"Invalid model provider type {kind} for {body.type} router.")
        await _check_fallback(
            session, router_id, changes.get("type", row.type), changes.get("fallback_id", row.fallback_id)
        )
        for name, value in changes.items():
            setattr(row, name, value)
        _check_voices(row)
        await change_router(session, row, before.aliases if aliases is None else aliases)
        after = (await _to_routers(session, [row]))[0]
        audit(session, call, "router.update", "router", router_id, before, after)
    await call.state.directory.refresh()
    return after


async def _check_fallback(session: AsyncSession, router_id: int | None, kind: str, fallback_id: int | None) -> None:
    """Raise `NotFoundError` or `InvalidFieldError` unless the fallback can do what the router does."""
    if fallback_id is not None:
        fallback = await get_router(session, fallback_id)
        if fallback_id == router_id or fallback.type != kind:
            raise InvalidFieldError(["body", "fallback"], f"Expected another {kind} router")


_CHANGED: Final = ("type", "load_balancing_strategy", "cache_charge", "accepts_token_ids")
_CLEARED: Final = {"fallback": "fallback_id", "cache_ttl": "cache_ttl_s", "token_encoding": "token_encoding"}
"""Member → column; null clears it."""


def _changes(body: UpdateRouterRequest) -> dict[str, Any]:
    """Return the new values of columns; raises `InvalidFieldError`."""
    changes: dict[str, Any] = {"updated_ms": now_ms()}
    changes |= {name: value for name in _CHANGED if (value := getattr(body, name)) is not None}
    changes |= {column: value for name, column in _CLEARED.items() if (value := getattr(body, name)) is not UNSET}
    if body.name is not None:
        changes["name"] = trimmed(body.name, "name")
    changes |= _described(body)
    if body.voices is not UNSET:
        changes["voices"] = _voices(body.voices)
    if body.cost_prompt_tokens is not None:
        changes["price_prompt"] = _price(body.cost_prompt_tokens, "cost_prompt_tokens")
    if body.cost_completion_tokens is not None:
        changes["price_completion"] = _price(body.cost_completion_tokens, "cost_completion_tokens")
    return changes


def _described(body: UpdateRouterRequest) -> dict[str, Any]:
    """Return the new values of what a router tells of itself."""
    changes: dict[str, Any] = {}
    if body.default_parameters is not UNSET:
        changes["default_parameters"] = _parameters(body.default_parameters)
    if body.display_name is not UNSET:
        changes["display_name"] = None if body.display_name is None else trimmed(body.display_name, "display_name")
    if body.description is not None:
        changes["description"] = body.description.strip()
    if body.tools is not UNSET:
        changes["tools"] = body.tools
    if body.small is not None:
        changes["is_small"] = body.small
    return changes


@routes.delete("/v1/admin/routers/{router_id}", right="admin", raises=(NotFoundError,))
async def delete_router(call: Call, router_id: RowId) -> Router:
    """Delete a router with its providers and aliases; its queued jobs end as failed, running ones finish."""
    async with call.state.database.transaction() as session:
        row = await get_router(session, router_id)
        deleted = (await _to_routers(session, [row]))[0]
        audit(session, call, "router.delete", "router", router_id, deleted, None)
        await remove_router(session, row)
    await call.state.directory.refresh()
    return deleted


async def _to_routers(session: AsyncSession, rows: list[RouterRow]) -> list[Router]:
    ids = [row.id or 0 for row in rows]
    aliases, providers = await list_aliases(session, ids), await count_providers(session, ids)
    return [_to_router(row, aliases[row.id or 0], providers[row.id or 0]) for row in rows]


def _to_router(row: RouterRow, aliases: list[str], providers: int) -> Router:
    return Router(
        id=row.id or 0,
        name=row.name,
        user_id=row.user_id,
        type=row.type,  # type: ignore[arg-type]  # a column
        aliases=aliases,
        load_balancing_strategy=row.load_balancing_strategy,  # type: ignore[arg-type]
        fallback=row.fallback_id,
        cache_ttl=row.cache_ttl_s,
        cache_charge=row.cache_charge,  # type: ignore[arg-type]
        default_parameters=json.decode(row.default_parameters or "{}", type=DefaultParameters),
        display_name=row.display_name,
        description=row.description,
        tools=row.tools,
        small=row.is_small,
        voices=None if row.voices is None else json.decode(row.voices, type=list[RouterVoice]),
        accepts_token_ids=row.accepts_token_ids,
        token_encoding=row.token_encoding,
        vector_size=row.vector_size,
        max_context_length=row.max_context_length,
        cost_prompt_tokens=float(row.price_prompt),
        cost_completion_tokens=float(row.price_completion),
        providers=providers,
        created=row.created_ms // 1000,
        updated=row.updated_ms // 1000,
    )
