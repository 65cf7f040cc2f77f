"""Refusals of new providers; their places in the tree are drawn in `shared.errors`."""

from shared.errors import ApiError, PermissionDeniedError


class ProviderNotReachableError(ApiError):
    """The provider did not answer, or does not serve the model."""

    status, code = 424, "provider_not_reachable"

    def __init__(self, model_name: str) -> None:
        super().__init__(f"Model provider {model_name} not reachable.")


class InconsistentModelError(PermissionDeniedError):
    """The provider's model differs from that of the router's other providers."""

    code = "inconsistent_model"
