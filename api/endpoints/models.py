"""GET /v1/models, /v1/models/{model} and /v1/chat/models."""

from api.access import has_access
from api.call import Call
from api.http import Routes
from shared.clock import to_iso
from shared.dialects import VULTR
from shared.directory import Router
from shared.errors import ModelNotFoundError
from shared.models.schemas import CHAT_TYPES, ChatFeatures, ChatModel, ChatModelList, Model, ModelCosts, ModelList
from shared.roles.queries import list_open_routers

routes = Routes("Models")


@routes.get("/v1/models")
async def list_models(call: Call) -> ModelList:
    """List the models the caller may use: routers that have a provider."""
    return ModelList(data=[_model(call, router) for router in await _usable(call)])


async def _usable(call: Call) -> list[Router]:
    await call.state.directory.refresh()
    routers = call.state.directory.routers()
    return [router for router in routers if router.providers and has_access(call.caller, router.id)]


@routes.get("/v1/chat/models")
async def list_chat_models(call: Call) -> ChatModelList:
    """List the chat models the caller may use: those open to every user, and those open to his role only."""
    async with call.state.database.read() as session:
        open_to_all = await list_open_routers(session)
    found = ChatModelList(models=[], private_models=[])
    for router in await _usable(call):
        if router.type in CHAT_TYPES:
            (found.models if router.id in open_to_all else found.private_models).append(_chat_model(router))
    return found


@routes.get("/v1/models/{model:.+}", raises=(ModelNotFoundError,))
async def get_model(call: Call, model: str) -> Model:
    """Get a model by its name or by an alias; names may contain slashes."""
    router = await call.state.directory.find_router(model)
    if router is None or not router.providers or not has_access(call.caller, router.id):
        raise ModelNotFoundError
    return _model(call, router)


def _model(call: Call, router: Router) -> Model:
    return Model(
        id=router.name,
        created=to_iso(router.created_ms) if call.dialect == VULTR else router.created_ms // 1000,
        owned_by=router.owner or call.state.settings.app_title,
        type=router.type,  # type: ignore[arg-type]  # a column
        aliases=list(router.aliases),
        max_context_length=router.max_context_length,
        costs=ModelCosts(prompt_tokens=float(router.price_prompt), completion_tokens=float(router.price_completion)),
    )


def _chat_model(router: Router) -> ChatModel:
    return ChatModel(
        model=router.name,
        id=router.name,
        description=router.description,
        context_length=router.max_context_length,
        features=ChatFeatures(
            stream=True, tools=router.has_tools is not False, vision=router.type == "image-text-to-text"
        ),
    )
