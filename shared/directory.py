"""Routers and providers as every process keeps them in memory.

A background task looks at the revision counter twice a second and loads everything anew when it has changed; a miss
looks at once.  So a change is effective everywhere within a second, and a request reads no database for a known model.
"""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import structlog
from cryptography.exceptions import InvalidTag
from msgspec import Struct, json
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.carbon.footprint import Deployment, Profile, build_profile
from shared.chat.parameter_sets import ALL, usual_set
from shared.database import Database
from shared.organizations.tables import OrganizationRow
from shared.providers.tables import ProviderRow
from shared.revision import get_revision
from shared.routers.schemas import RouterVoice
from shared.routers.tables import RouterNameRow, RouterRow
from shared.secrets import SecretBox
from shared.tasks import end_tasks, start_background
from shared.users.tables import UserRow

log = structlog.get_logger()
_POLL_S: Final = 0.5
Share = tuple[int, int]
"""A shard and how many there are: limits of providers are divided among them."""


class Provider(Struct, frozen=True, kw_only=True):
    """One upstream server of a router; `key` is in clear, in worker processes only."""

    id: int
    router_id: int
    type: str
    url: str
    key: str | None
    timeout_s: int
    model_name: str
    profile: Profile
    weight: float
    """Share of the attempts with the strategy `weighted`."""
    qos_metric: str | None
    qos_limit: float | None
    native_responses: bool
    """Whether it has a responses route of its own."""
    max_batch: int | None
    """Inputs of one call; None if nobody told."""
    parameter_set: str = ALL
    """See `shared.chat.parameter_sets`."""
    denied_params: frozenset[str] = frozenset()
    """Parameters that its operator forbids."""
    updated_ms: int = 0
    share: Share = (0, 1)
    """Of its limit, that this process may use."""

    @property
    def most_attempts(self) -> int | None:
        """Return how many attempts may run at once in this shard, at least one; None is any number."""
        if self.qos_metric != "inflight" or self.qos_limit is None:
            return None
        limit, (shard, shards) = int(self.qos_limit), self.share
        return max(limit // shards + int(shard < limit % shards), min(limit, 1))


class Router(Struct, frozen=True, kw_only=True):
    """One public model."""

    id: int
    name: str
    owner: str | None
    """Organization of the user who made it; None if he has none."""
    type: str
    aliases: tuple[str, ...]
    load_balancing_strategy: str
    cache_ttl_s: int | None
    cache_charge: str
    fallback_id: int | None
    """Router that is asked when all providers are out."""
    price_prompt: Decimal
    price_completion: Decimal
    max_context_length: int | None
    voices: tuple[RouterVoice, ...] | None
    """Of a router that speaks; None if nobody told."""
    accepts_token_ids: bool
    token_encoding: str | None
    """Vocabulary of the ids; None if nobody told."""
    created_ms: int
    providers: tuple[Provider, ...]
    default_parameters: Mapping[str, Any] = {}
    """Of chats that leave them out."""
    display_name: str | None = None
    description: str = ""
    has_tools: bool | None = None
    """Whether the model can call tools; None: not known."""

    @property
    def is_free(self) -> bool:
        """Return whether nobody pays for it."""
        return not self.price_prompt and not self.price_completion

    @property
    def capacity(self) -> int | None:
        """Return how many attempts its providers take at once; None is any number."""
        limits = [provider.most_attempts for provider in self.providers]
        if self.fallback_id is not None or not limits or None in limits:
            return None
        return sum(limit for limit in limits if limit is not None)


class Directory:
    """The routers of the installation."""

    def __init__(self, database: Database, box: SecretBox | None = None, *, share: Share = (0, 1)) -> None:
        self._share = share
        self._database = database
        self._box = box
        self._revision = -1
        self._by_name: dict[str, Router] = {}
        self._by_id: dict[int, Router] = {}
        self._loading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load everything and keep it fresh."""
        await self.refresh()
        self._task = start_background(self._follow())

    async def close(self) -> None:
        """Stop following changes."""
        if self._task is not None:
            await end_tasks(self._task)

    @property
    def revision(self) -> int:
        """Return the revision of what is in memory; other caches of the process compare with it."""
        return self._revision

    def routers(self) -> list[Router]:
        """Return all routers by id."""
        return list(self._by_id.values())

    def peek(self, name: str) -> Router | None:
        """Return the router with this name or alias, without asking the database."""
        return self._by_name.get(name)

    async def find_router(self, name: str) -> Router | None:
        """Return the router with this name or alias."""
        router = self._by_name.get(name)
        if router is None or not router.providers:
            await self.refresh()
            router = self._by_name.get(name)
        return router

    def peek_by_id(self, router_id: int) -> Router | None:
        """Return the router with this id, without asking the database."""
        return self._by_id.get(router_id)

    async def find_router_by_id(self, router_id: int) -> Router | None:
        """Return the router with this id."""
        router = self._by_id.get(router_id)
        if router is None or not router.providers:
            await self.refresh()
            router = self._by_id.get(router_id)
        return router

    async def refresh(self) -> None:
        """Load everything if it has changed."""
        async with self._loading:
            revision = await get_revision(self._database.engine)
            if revision != self._revision:
                async with self._database.read() as session:
                    self._by_id = await _load(session, self._box, self._share)
                self._by_name = {n: r for r in self._by_id.values() for n in (r.name, *r.aliases)}
                self._revision = revision

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError) as error:
                log.warning("directory_not_refreshed", error=repr(error))


async def _load(session: AsyncSession, box: SecretBox | None, share: Share) -> dict[int, Router]:
    providers: dict[int, list[Provider]] = {}
    for row in (await session.exec(select(ProviderRow).order_by(col(ProviderRow.id)))).all():
        providers.setdefault(row.router_id, []).append(_provider(row, box, share))
    aliases: dict[int, list[str]] = {}
    for name in (await session.exec(select(RouterNameRow).order_by(col(RouterNameRow.name)))).all():
        if name.is_alias:
            aliases.setdefault(name.router_id, []).append(name.name)
    named = select(UserRow.id, OrganizationRow.name).join(
        OrganizationRow, col(OrganizationRow.id) == UserRow.organization_id
    )
    owners = dict((await session.exec(named)).all())
    routers: dict[int, Router] = {}
    for router in (await session.exec(select(RouterRow).order_by(col(RouterRow.id)))).all():
        router_id = router.id or 0
        routers[router_id] = Router(
            id=router_id,
            name=router.name,
            owner=owners.get(router.user_id),
            type=router.type,
            aliases=tuple(aliases.get(router_id, ())),
            load_balancing_strategy=router.load_balancing_strategy,
            cache_ttl_s=router.cache_ttl_s,
            cache_charge=router.cache_charge,
            fallback_id=router.fallback_id,
            price_prompt=Decimal(router.price_prompt),
            price_completion=Decimal(router.price_completion),
            max_context_length=router.max_context_length,
            default_parameters=json.decode(router.default_parameters) if router.default_parameters else {},
            display_name=router.display_name,
            description=router.description,
            has_tools=router.tools,
            voices=None if router.voices is None else json.decode(router.voices, type=tuple[RouterVoice, ...]),
            accepts_token_ids=router.accepts_token_ids,
            token_encoding=router.token_encoding,
            created_ms=router.created_ms,
            providers=tuple(providers.get(router_id, ())),
        )
    return routers


def _open_key(row: ProviderRow, box: SecretBox | None) -> str | None:
    """Return the key in clear; None if there is none, or it was sealed with another secret."""
    if box is None or row.key_sealed is None:
        return None
    try:
        return box.open(row.key_sealed)
    except InvalidTag:
        log.error("provider_key_unreadable", provider_id=row.id, setting="SLUICE_ENCRYPTION_KEY")  # noqa: TRY400
        return None


def deployment_of(row: ProviderRow) -> Deployment:
    """Return what the footprint of a provider's answers is computed from."""
    return Deployment(
        total_params=row.model_total_params,
        active_params=row.model_active_params,
        zone=row.model_hosting_zone,
        quantization_bits=row.quantization_bits,
        gpu_count=row.gpu_count,
        gpu_memory_gb=row.gpu_memory_gb,
        batch_size=row.batch_size,
        pue=row.pue,
        wue=row.wue,
        joules_per_output_token=row.joules_per_output_token,
    )


def _provider(row: ProviderRow, box: SecretBox | None, share: Share) -> Provider:
    try:
        profile = build_profile(deployment_of(row))
    except (ArithmeticError, ValueError):  # one strange row must not take the installation down
        log.exception("provider_profile_unknown", provider_id=row.id)
        profile = build_profile(Deployment(zone=row.model_hosting_zone))
    return Provider(
        id=row.id or 0,
        router_id=row.router_id,
        type=row.type,
        url=row.url,
        key=_open_key(row, box),
        timeout_s=row.timeout_s,
        model_name=row.model_name,
        profile=profile,
        weight=row.weight,
        qos_metric=row.qos_metric,
        qos_limit=row.qos_limit,
        native_responses=row.native_responses,
        max_batch=row.max_batch,
        parameter_set=row.parameter_set or usual_set(row.type, row.url),
        denied_params=frozenset(json.decode(row.denied_params, type=list[str]) if row.denied_params else ()),
        updated_ms=row.updated_ms,
        share=share,
    )
