"""All endpoints.  One module per resource; a new module is one line here."""

from api.endpoints import (
    admin_providers,
    admin_routers,
    admin_tokens,
    chat,
    health,
    jobs,
    models,
    requests,
    usage,
)
from api.http import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *chat.routes.endpoints,
    *jobs.routes.endpoints,
    *models.routes.endpoints,
    *usage.routes.endpoints,
    *requests.routes.endpoints,
    *admin_routers.routes.endpoints,
    *admin_providers.routes.endpoints,
    *admin_tokens.routes.endpoints,
    *health.routes.endpoints,
)
