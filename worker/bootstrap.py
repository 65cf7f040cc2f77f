"""Make an installation ready to serve: schema, first rows, and the models of `SLUICE_UPSTREAM_URL`.

Safe to repeat: what exists stays as it is.
"""

from typing import Final

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Struct, json
from sqlalchemy import text
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.clock import now_ms
from shared.database import Database, sqlite_path
from shared.installation import secret_box
from shared.migrations import migrate
from shared.models.schemas import EMBEDDING_TYPES, ModelType
from shared.organizations.tables import OrganizationRow
from shared.providers.tables import ProviderRow
from shared.revision import raise_revision
from shared.roles.tables import LimitRow, RoleRow
from shared.routers.tables import RouterNameRow, RouterRow
from shared.secrets import mask
from shared.settings import Settings
from shared.shards import check_shards
from shared.unreadable import UNREADABLE
from shared.users.tables import UserRow

log = structlog.get_logger()
_UPSTREAM_TIMEOUT_S: Final = 5.0
_LOCK: Final = text("SELECT pg_advisory_xact_lock(7305804)")
SIMULATOR: Final = "simulator"
SIMULATED: Final[dict[str, ModelType]] = {
    SIMULATOR: "text-generation",
    "simulator-embedding": "text-embeddings-inference",
    "simulator-rerank": "text-classification",
    "simulator-transcription": "automatic-speech-recognition",
    "simulator-speech": "text-to-speech",
    "simulator-ocr": "image-to-text",
}
"""Models of the first start, each of its type."""


class UpstreamError(Exception):
    """The server of `SLUICE_UPSTREAM_URL` did not list its models; the message says why."""


class _ListedModel(Struct):
    id: str
    max_model_len: int | None = None


class _ModelList(Struct):
    data: list[_ListedModel]


async def prepare(settings: Settings) -> None:
    """Migrate the database and insert what is missing.

    Raises `UpstreamError`, `SettingsError`, `SchemaError`, and errors of the database.
    """
    url = settings.effective_database_url()
    if (path := sqlite_path(url)) is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(url)
    try:
        await migrate(database.engine)
        models = await list_upstream_models(settings) if settings.upstream_url else []
        async with database.transaction() as session:
            if path is None:  # machines may start at once
                await (await session.connection()).execute(_LOCK)
            await _insert_first_rows(session)
            if models:
                await _register_upstream(session, settings, models)
        await check_shards(database, settings)
    finally:
        await database.close()


def upstream_root(url: str) -> str:
    """Return the URL as providers store it: without `/v1`, with one slash at its end."""
    root = url.rstrip("/")
    return root.removesuffix("/v1").rstrip("/") + "/"


async def list_upstream_models(settings: Settings) -> list[_ListedModel]:
    """Return the models the upstream lists; raises `UpstreamError`."""
    url = upstream_root(settings.upstream_url or "") + "v1/models"
    headers = {"Authorization": f"Bearer {settings.upstream_key}"} if settings.upstream_key else {}
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=_UPSTREAM_TIMEOUT_S)) as http,
            http.get(url, headers=headers) as response,
        ):
            body = await response.read()
            if response.status != 200:
                raise UpstreamError(f"SLUICE_UPSTREAM_URL: {url} answered {response.status}.")
            return json.decode(body, type=_ModelList).data
    except (ClientError, TimeoutError, OSError) as error:
        raise UpstreamError(f"SLUICE_UPSTREAM_URL: {url} cannot be reached: {error!r}") from error
    except UNREADABLE as error:
        raise UpstreamError(f"SLUICE_UPSTREAM_URL: {url} did not answer with a list of models.") from error


async def _insert_first_rows(session: AsyncSession) -> None:
    """Insert an administrator (user 1) and a user (2), so that keys can be made; and the models of the simulator."""
    if (await session.exec(select(RoleRow.id).limit(1))).first() is None:
        now = now_ms()
        organization = OrganizationRow(name="default", created_ms=now, updated_ms=now)
        session.add(organization)
        await session.flush()
        for name, permissions in (("admin", '["admin"]'), ("user", "[]")):
            role = RoleRow(name=name, permissions=permissions, created_ms=now, updated_ms=now)
            session.add(role)
            await session.flush()
            user = UserRow(email=name, role_id=role.id or 0, created_ms=now, updated_ms=now)
            user.organization_id = organization.id
            session.add(user)
            await session.flush()
        for model, router_type in SIMULATED.items():
            provider = ProviderRow(type=SIMULATOR, url="simulator://local/", model_name=model)  # type: ignore[call-arg]
            await _insert_model(session, model, provider, router_type)
        await raise_revision(session)


async def _register_upstream(session: AsyncSession, settings: Settings, models: list[_ListedModel]) -> None:
    """Insert a router with one provider for each model that is not known yet."""
    box, key = secret_box(settings), settings.upstream_key
    names = set((await session.exec(select(RouterNameRow.name))).all())
    for model in models:
        if model.id in names:
            continue
        names.add(model.id)
        provider = ProviderRow(  # type: ignore[call-arg]  # completed by _insert_model
            type="openai",
            url=upstream_root(settings.upstream_url or ""),
            model_name=model.id,
            max_context_length=model.max_model_len,
            key_sealed=box.seal(key) if key else None,
            key_masked=mask(key) if key else None,
        )
        await _insert_model(session, model.id, provider)
        log.info("model_registered", model=model.id)
    await raise_revision(session)


async def _insert_model(
    session: AsyncSession, name: str, provider: ProviderRow, router_type: ModelType = "text-generation"
) -> None:
    """Insert a router of this name with this provider; every role there is may use it."""
    now = now_ms()
    router = RouterRow(
        name=name,
        type=router_type,
        max_context_length=provider.max_context_length,
        accepts_token_ids=router_type not in EMBEDDING_TYPES,
        created_ms=now,
        updated_ms=now,
    )
    session.add(router)
    await session.flush()
    provider.router_id = router.id or 0
    provider.created_ms = provider.updated_ms = now
    session.add_all([RouterNameRow(name=name, router_id=provider.router_id, is_alias=False), provider])
    roles = (await session.exec(select(RoleRow.id))).all()
    session.add_all(LimitRow(role_id=role_id or 0, router_id=provider.router_id, type="rpm") for role_id in roles)
