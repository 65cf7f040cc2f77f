"""GET /v1/models and /v1/models/{model}."""

from api.access import has_access
from api.call import Call
from api.http import Routes
from shared.directory import Router
from shared.errors import ModelNotFoundError
from shared.models.schemas import Model, ModelCosts, ModelList

routes = Routes("Models")


@routes.get("/v1/models")
async def list_models(call: Call) -> ModelList:
    """List the models the caller may use: routers that have a provider."""
    await call.state.directory.refresh()
    routers = call.state.directory.routers()
    return ModelList(data=[_model(call, one) for one in routers if one.providers and has_access(call.caller, one.id)])


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
        created=router.created_ms // 1000,
        owned_by=router.owner or call.state.settings.app_title,
        type=router.type,  # type: ignore[arg-type]  # a column
        aliases=list(router.aliases),
        max_context_length=router.max_context_length,
        costs=ModelCosts(prompt_tokens=float(router.price_prompt), completion_tokens=float(router.price_completion)),
    )
