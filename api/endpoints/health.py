"""GET /health, /health/models, and the page at /."""

from functools import partial
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct, json

from api.access import has_access
from api.call import Call
from api.cluster_health import look_at_cluster
from api.http import Reply, Routes
from api.provider_health import health_of, worst
from api.state import reachable
from shared.errors import ApiError, QueueUnavailableError
from shared.models.health import ClusterHealth, ModelHealth, ModelHealthList

routes = Routes("Monitoring")
_ROOT: Final = Path(__file__).parent.parent.parent
_PAGE: Final = _ROOT / "api" / "pages" / "index.html"
_README: Final = _ROOT / "README.md"


class LeavingError(ApiError):
    """The process is about to end; others serve."""

    status, code = 503, "leaving"

    def __init__(self) -> None:
        super().__init__("This process is about to end.")


class Health(Struct, kw_only=True):
    """The process serves."""

    status: Literal["ok"]


@routes.get("/health", right=None, raises=(QueueUnavailableError, LeavingError))
async def get_health(call: Call) -> Health:
    """Tell whether this process can serve: 503 while it can reach no queue, and while it is about to end."""
    return _look(call)


def _look(call: Call) -> Health:
    if call.state.leaving.is_set():
        raise LeavingError
    reachable(call.state)
    return Health(status="ok")


@routes.get("/health/live", right=None)
async def get_life(call: Call) -> Health:  # what any handler is given
    """Tell that this process answers, whatever it needs: for whoever ends processes that do not."""
    return Health(status="ok")


@routes.get("/health/models", raises=(QueueUnavailableError,))
async def list_model_health(call: Call) -> ModelHealthList:
    """Tell how the models are that the caller may use; the worst provider decides."""
    routers = [one for one in call.state.directory.routers() if one.providers and has_access(call.caller, one.id)]
    healths = await health_of(call, routers)
    return ModelHealthList(data=[ModelHealth(id=one.name, status=worst(healths[one.id])) for one in routers])


@routes.get("/v1/health")
async def get_cluster_health(call: Call) -> Reply[ClusterHealth]:
    """Tell how database, Redis, workers and providers are, as of the last five seconds; 503 if it is down."""
    found = await call.state.cluster.get(partial(look_at_cluster, call))
    return Reply(body=json.encode(found), status=503 if found.status == "down" else 200)


@routes.get("/status", right=None, raises=(QueueUnavailableError, LeavingError))
async def get_status(call: Call) -> Health:
    """Tell whether this process can serve; the same as /health."""
    return _look(call)


@routes.get("/", right=None, media_type="text/html")
async def get_start_page(call: Call) -> Reply[str]:
    """Show what this is and where to go."""
    call.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return Reply(body=_PAGE.read_bytes(), content_type="text/html; charset=utf-8")


@routes.get("/readme", right=None, media_type="text/plain")
async def get_readme(call: Call) -> Reply[str]:
    """Show README.md as text."""
    call.headers["Content-Security-Policy"] = "default-src 'none'"
    return Reply(body=_README.read_bytes(), content_type="text/plain; charset=utf-8")
