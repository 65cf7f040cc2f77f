"""What a key may reach: permissions of its role, and the scopes of the key itself."""

from typing import Final, Literal

from api.keys import Caller
from shared.errors import PermissionDeniedError

Right = Literal["key", "account", "admin", "provide_models", "read_metric", "read_organization_usage"]
"""`key`: any valid key; `account`: also that of an expired account; the rest: this permission, or `admin`."""
_PATHS: Final = (
    ("/v1/admin/", "admin"),
    ("/v1/jobs", "jobs"),
    ("/v1/batches", "jobs"),
    ("/v1/files", "jobs"),
    ("/v1/queue", "jobs"),
    ("/v1/requests", "jobs"),
    ("/v1/request_logs", "jobs"),
    ("/v1/usage", "jobs"),
    ("/v1/organization/usage", "jobs"),
    ("/v1/webhook", "jobs"),
    ("/v1/chat", "inference"),
    ("/v1/responses", "inference"),
    ("/v1/collections", "collections"),
    ("/v1/documents", "collections"),
    ("/v1/chunks", "collections"),
    ("/v1/search", "collections"),
    ("/v1/vector_store", "collections"),
    ("/v1/parse-beta", "collections"),
)
_WHOLE: Final = "whole"
"""Asked for by what would let a key give itself more than it has; no key has it as a scope."""


def scope_of(method: str, path: str, *, is_inference: bool) -> str | None:
    """Return the scope that a key with scopes needs for an operation; None if any key will do."""
    if is_inference:
        return "inference"
    if path.startswith("/v2/inference/{subscription_id}/conversations"):
        return "inference"
    if path.startswith("/v2/inference") or (path.startswith("/v1/me/") and method != "GET"):
        return _WHOLE
    return next((scope for prefix, scope in _PATHS if path.startswith(prefix)), None)


def check_rights(caller: Caller, right: Right, scope: str | None, path: str) -> None:
    """Raise `PermissionDeniedError` unless the caller may use the operation."""
    if scope is not None and caller.scopes is not None and scope not in caller.scopes:
        raise PermissionDeniedError("Insufficient rights.")
    if right in ("key", "account") or caller.is_admin or right in caller.permissions:
        return
    routing = right == "admin" and path.startswith(("/v1/admin/routers", "/v1/admin/providers"))
    raise PermissionDeniedError("User has no admin rights." if routing else "Insufficient rights.")
