"""All endpoints.  One module per resource; a new module is one line here."""

from api.endpoints import (
    admin_audit,
    admin_organizations,
    admin_providers,
    admin_roles,
    admin_routers,
    admin_tokens,
    admin_users,
    audio,
    auth,
    chat,
    health,
    jobs,
    me,
    me_keys,
    me_usage,
    models,
    requests,
    usage,
)
from api.http import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *chat.routes.endpoints,
    *audio.routes.endpoints,
    *jobs.routes.endpoints,
    *models.routes.endpoints,
    *usage.routes.endpoints,
    *requests.routes.endpoints,
    *admin_routers.routes.endpoints,
    *admin_providers.routes.endpoints,
    *admin_organizations.routes.endpoints,
    *admin_roles.routes.endpoints,
    *admin_users.routes.endpoints,
    *admin_tokens.routes.endpoints,
    *admin_audit.routes.endpoints,
    *auth.routes.endpoints,
    *me.routes.endpoints,
    *me_keys.routes.endpoints,
    *me_usage.routes.endpoints,
    *health.routes.endpoints,
)
