"""Refusals of collections and of what is put into them; their places in the tree are drawn in `shared.errors`."""

from typing import Final

from shared.errors import ApiError, BadRequestError, NotFoundError, PermissionDeniedError


class MasterNotAllowedError(BadRequestError):
    """The key of the settings owns no collections."""

    code = "master_not_allowed"

    def __init__(self) -> None:
        super().__init__("Master user is not allowed to create collection.")


class FeatureNotEnabledError(PermissionDeniedError):
    """The installation has no model that this needs."""

    code = "feature_not_enabled"

    def __init__(self, message: str = "Feature not enabled, please contact an administrator.") -> None:
        super().__init__(message)


class VectorSizeError(PermissionDeniedError):
    """The model's vectors have another size than those that are stored."""

    code = "inconsistent_model"

    def __init__(self, model: str, expected: int, actual: int) -> None:
        super().__init__(f"Inconsistent vector size for {model}. Expected: {expected}. Actual: {actual}")


class ParsingFailedError(ApiError):
    """A file could not be read, or has no text."""

    status, type, code = 422, "invalid_request_error", "parsing_failed"

    def __init__(self, message: str = "Parsing document failed.") -> None:
        super().__init__(message, param="file")


class SearchMethodError(BadRequestError):
    """Another search method was expected."""

    code = "wrong_search_method"

    def __init__(self) -> None:
        super().__init__("Score threshold is only available for semantic search method")


class StoreNotFoundError(NotFoundError):
    """The caller has no vector store with this id."""

    code = "collection_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"No collection `{name}`.", param="collection")


class ContentTooLongError(ApiError):
    """The text is longer than the model takes, and was not to be cut."""

    status, type, code = 422, "invalid_request_error", "content_too_long"

    def __init__(self) -> None:
        super().__init__("The content is longer than the model takes.", param="content")


SEARCH_ERRORS: Final = (NotFoundError, FeatureNotEnabledError, SearchMethodError, VectorSizeError, StoreNotFoundError)
"""Of every chat that searches."""
