"""/v1/admin/providers: the upstream servers of routers."""

from typing import Any

from msgspec import UNSET, json
from sqlmodel.ext.asyncio.session import AsyncSession

from api.audit import audit
from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.probe import Target, probe
from api.trim import trimmed
from shared.carbon.zones import HOSTING_ZONES
from shared.chat.parameter_sets import usual_set
from shared.clock import now_ms
from shared.errors import ConflictError, InvalidFieldError, NotFoundError, ProviderTypeError
from shared.lists import ListPage, RowId, one_of
from shared.models.schemas import DEFAULT_URL, NATIVE_RESPONSES_TYPES, PROVIDER_TYPES_OF
from shared.providers.errors import InconsistentModelError, ProviderNotReachableError
from shared.providers.queries import check_consistency, describe_router, save_provider
from shared.providers.queries import delete_provider as remove_provider
from shared.providers.queries import get_provider as query_provider
from shared.providers.queries import list_providers as query_providers
from shared.providers.schemas import CreateProviderRequest, ListProvidersQuery, Provider, UpdateProviderRequest
from shared.providers.tables import ProviderRow
from shared.routers.queries import get_router
from shared.routers.tables import RouterRow
from shared.secrets import mask

routes = Routes("Admin: providers")


_REFUSALS = (
    NotFoundError, ConflictError, ProviderTypeError, ProviderNotReachableError, InconsistentModelError,
)  # fmt: skip


@routes.post("/v1/admin/providers", right="admin", status=201, raises=_REFUSALS)
async def create_provider(call: Call, body: CreateProviderRequest) -> Provider:
    """Create a provider of a router, once it has answered and serves the model; its key is never shown again."""
    router_id = one_of("router", body.router, "router_id", body.router_id, "body")
    if router_id is None:
        raise InvalidFieldError(["body", "router"], "Object missing required field `router`", "missing")
    _check(body.model_hosting_zone, body.model_total_params, body.model_active_params, body.qos_metric, body.qos_limit)
    _check_native(body.type, body.native_responses)
    now = now_ms()
    key = None if body.key is None else trimmed(body.key, "key")
    kept = {name: getattr(body, name) for name in _KEPT}
    row = ProviderRow(
        router_id=router_id,
        user_id=call.caller.user_id,
        url=_url(body.url, body.type),
        model_name=trimmed(body.model_name, "model_name"),
        key_sealed=None if key is None else call.state.box.seal(key),
        key_masked=None if key is None else mask(key),
        timeout_s=body.timeout,
        denied_params=_to_names(body.denied_params),
        created_ms=now,
        updated_ms=now,
        **kept,
    )
    async with call.state.database.read() as session:
        router = await get_router(session, router_id)
    _check_type(body.type, router)
    if body.probe:
        await _probe(call, row, router)
    async with call.state.database.transaction() as session:
        router = await get_router(session, router_id)
        _check_type(body.type, router)
        await check_consistency(session, router, row)
        await save_provider(session, row)
        await describe_router(session, router_id)
        created = _to_provider(row)
        audit(session, call, "provider.create", "provider", created.id, None, created)
        await keep_answer(session, call, created)
    await call.state.directory.refresh()
    return created


async def _probe(call: Call, row: ProviderRow, router: RouterRow) -> None:
    """Note what the provider tells of its model; raises `ProviderNotReachableError`."""
    key = None if row.key_sealed is None else call.state.box.open(row.key_sealed)
    target = Target(type=row.type, url=row.url, key=key, model_name=row.model_name, router_type=router.type)
    found = await probe(call.state.http, target)
    row.max_context_length, row.vector_size = found.max_context_length, found.vector_size


_KEPT = (
    "type", "model_hosting_zone", "model_total_params", "model_active_params", "quantization_bits",
    "gpu_count", "gpu_memory_gb", "batch_size", "pue", "wue", "joules_per_output_token", "qos_metric", "qos_limit",
    "weight", "native_responses", "max_batch", "parameter_set",
)  # fmt: skip
"""Members that are columns of the same name."""


def _check(zone: str, total: float, active: float, qos_metric: str | None, qos_limit: float | None) -> None:
    """Raise `InvalidFieldError` if members contradict one another."""
    if zone not in HOSTING_ZONES:
        raise InvalidFieldError(["body", "model_hosting_zone"], f"Invalid enum value {zone!r}")
    if total and active > total:
        raise InvalidFieldError(["body", "model_active_params"], "Active parameters must not exceed the total.")
    if qos_metric is not None and qos_limit is None:
        raise InvalidFieldError(["body", "qos_limit"], "QoS value is required if QoS metric is provided.")


def _check_type(provider_type: str, router: RouterRow) -> None:
    if provider_type not in PROVIDER_TYPES_OF[router.type]:
        raise ProviderTypeError(f"Invalid model provider type {provider_type} for {router.type} router.")


def _check_native(provider_type: str, native_responses: bool | None) -> None:
    if native_responses and provider_type not in NATIVE_RESPONSES_TYPES:
        raise InvalidFieldError(["body", "native_responses"], f"{provider_type} providers have no responses route.")


def _url(url: str | None, provider_type: str) -> str:
    """Return the URL as it is stored: with one slash at its end and without `/v1`."""
    if url is None:
        if provider_type not in DEFAULT_URL:
            raise InvalidFieldError(["body", "url"], "URL is required for this model provider type.")
        return DEFAULT_URL[provider_type]
    url = trimmed(url, "url").rstrip("/")
    if not url.startswith(("http://", "https://", "simulator://")):
        raise InvalidFieldError(["body", "url"], "Expected an URL that starts with http:// or https://")
    return url.removesuffix("/v1").rstrip("/") + "/"


@routes.get("/v1/admin/providers", right="admin")
async def list_providers(call: Call, query: ListProvidersQuery) -> ListPage[Provider]:
    """List providers, ordered by id, model_name or created."""
    router_id = one_of("router", query.router, "router_id", query.router_id)
    async with call.state.database.read() as session:
        rows, total = await query_providers(session, query, router_id)
    return ListPage(data=[_to_provider(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


@routes.get("/v1/admin/providers/{provider}", right="admin", raises=(NotFoundError,))
async def get_provider(call: Call, provider: RowId) -> Provider:
    """Get a provider."""
    async with call.state.database.read() as session:
        return _to_provider(await query_provider(session, provider))


@routes.patch("/v1/admin/providers/{provider}", right="provide_models", status=204, raises=_REFUSALS)
async def update_provider(call: Call, provider: RowId, body: UpdateProviderRequest) -> None:
    """Change a provider: any of them with the permission `admin`, one's own with `provide_models`.

    A new `url`, `model_name` or `key` is looked at as that of a new provider.
    """
    router_id = one_of("router", body.router, "router_id", body.router_id, "body")
    found = await _look_again(call, provider, body) if body.probe and _needs_probe(body) else None
    async with call.state.database.transaction() as session:
        row = await _own_provider(session, call, provider)
        before, old_router_id = _to_provider(row), row.router_id
        router = await get_router(session, row.router_id if router_id is None else router_id)
        row.router_id = router.id or 0
        _check_type(row.type, router)
        for name, value in _changes(call, row, body).items():
            setattr(row, name, value)
        if found is not None:
            row.max_context_length, row.vector_size = found.max_context_length, found.vector_size
        _check(row.model_hosting_zone, row.model_total_params, row.model_active_params, row.qos_metric, row.qos_limit)
        await check_consistency(session, router, row)
        await save_provider(session, row)
        for changed in {old_router_id, row.router_id}:
            await describe_router(session, changed)
        audit(session, call, "provider.update", "provider", provider, before, _to_provider(row))
    await call.state.directory.refresh()


async def _own_provider(session: AsyncSession, call: Call, provider: int) -> ProviderRow:
    row = await query_provider(session, provider)
    if not call.caller.is_admin and row.user_id != call.caller.user_id:
        raise NotFoundError(f"Model provider {provider} not found.")
    return row


def _needs_probe(body: UpdateProviderRequest) -> bool:
    return body.url is not None or body.model_name is not None or body.key is not UNSET


async def _look_again(call: Call, provider: int, body: UpdateProviderRequest) -> ProviderRow:
    """Return a copy of the row that knows what the changed provider tells; before any transaction."""
    router_id = one_of("router", body.router, "router_id", body.router_id, "body")
    async with call.state.database.read() as session:
        row = await _own_provider(session, call, provider)
        router = await get_router(session, row.router_id if router_id is None else router_id)
        session.expunge(row)
    for name, value in _changes(call, row, body).items():
        setattr(row, name, value)
    await _probe(call, row, router)
    return row


def _changes(call: Call, row: ProviderRow, body: UpdateProviderRequest) -> dict[str, Any]:
    """Return the new values of columns; raises `InvalidFieldError`."""
    _check_native(row.type, body.native_responses)
    changes: dict[str, Any] = {"updated_ms": now_ms()}
    plain = {"timeout": "timeout_s"} | {name: name for name in _CHANGED}
    changes |= {column: value for name, column in plain.items() if (value := getattr(body, name)) is not None}
    changes |= {name: value for name in _CLEARED_BY_NULL if (value := getattr(body, name)) is not UNSET}
    if body.model_name is not None:
        changes["model_name"] = trimmed(body.model_name, "model_name")
    if body.url is not None:
        changes["url"] = _url(body.url, row.type)
    if body.key is not UNSET:
        key = None if body.key is None else trimmed(body.key, "key")
        changes["key_sealed"] = None if key is None else call.state.box.seal(key)
        changes["key_masked"] = None if key is None else mask(key)
    if body.denied_params is not None:
        changes["denied_params"] = _to_names(body.denied_params)
    if body.qos_metric is None:
        changes["qos_limit"] = None
    return changes


def _to_names(denied: list[str]) -> str | None:
    return json.encode(sorted(set(denied))).decode() if denied else None


_CHANGED = ("weight", "native_responses", "model_hosting_zone", "model_total_params", "model_active_params")
_CLEARED_BY_NULL = (
    "quantization_bits", "gpu_count", "gpu_memory_gb", "batch_size", "pue", "wue", "joules_per_output_token",
    "qos_metric", "qos_limit", "max_batch", "parameter_set",
)  # fmt: skip


@routes.delete("/v1/admin/providers/{provider}", right="admin", raises=(NotFoundError,))
async def delete_provider(call: Call, provider: RowId) -> Provider:
    """Delete a provider; attempts that run at it finish and are accounted."""
    async with call.state.database.transaction() as session:
        row = await query_provider(session, provider)
        deleted = _to_provider(row)
        audit(session, call, "provider.delete", "provider", provider, deleted, None)
        await remove_provider(session, row)
    await call.state.directory.refresh()
    return deleted


def _to_provider(row: ProviderRow) -> Provider:
    return Provider(
        id=row.id or 0,
        router_id=row.router_id,
        user_id=row.user_id,
        type=row.type,  # type: ignore[arg-type]  # a column
        url=row.url,
        key=row.key_masked,
        timeout=row.timeout_s,
        model_name=row.model_name,
        model_hosting_zone=row.model_hosting_zone,
        model_total_params=_number(row.model_total_params),
        model_active_params=_number(row.model_active_params),
        quantization_bits=row.quantization_bits,
        gpu_count=row.gpu_count,
        gpu_memory_gb=row.gpu_memory_gb,
        batch_size=row.batch_size,
        pue=row.pue,
        wue=row.wue,
        joules_per_output_token=row.joules_per_output_token,
        qos_metric=row.qos_metric,  # type: ignore[arg-type]
        qos_limit=row.qos_limit,
        weight=_number(row.weight),
        native_responses=row.native_responses,
        max_batch=row.max_batch,
        parameter_set=row.parameter_set or usual_set(row.type, row.url),  # type: ignore[arg-type]
        denied_params=json.decode(row.denied_params, type=list[str]) if row.denied_params else [],
        created=row.created_ms // 1000,
        updated=row.updated_ms // 1000,
    )


def _number(value: float) -> float | int:
    """Return a whole number as an integer."""
    return int(value) if value.is_integer() else value
