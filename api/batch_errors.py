"""Errors of /v1/batches."""

from collections.abc import Iterable

from msgspec import json

from shared.batches.schemas import ENDPOINTS, BatchErrors
from shared.errors import BadRequestError, ConflictError


class UnsupportedEndpointError(BadRequestError):
    """Batches are not made for this route."""

    code = "unsupported_endpoint"

    def __init__(self, endpoint: str) -> None:
        message = f"`{endpoint[:100]}` is not one of {', '.join(ENDPOINTS)}."
        super().__init__(message, param="endpoint")


class InvalidCompletionWindowError(BadRequestError):
    """The installation does not have this window."""

    code = "invalid_completion_window"

    def __init__(self, windows: Iterable[str]) -> None:
        message = f"`completion_window` must be one of {', '.join(sorted(windows))}."
        super().__init__(message, param="completion_window")


class InvalidInputFileError(BadRequestError):
    """The file is not one for batches."""

    code = "invalid_input_file"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="input_file_id")


class BatchInputError(BadRequestError):
    """A line of `requests` cannot be used; nothing was made."""

    code = "invalid_batch"

    def __init__(self, errors: BatchErrors) -> None:
        first = errors.data[0]
        where = "" if first.line is None else f"Line {first.line}: "
        super().__init__(where + first.message, param="requests")
        self._errors = errors

    def body(self) -> bytes:
        """Return the JSON body with the member `errors`."""
        return json.encode({"error": self.error(), "detail": self.message, "errors": self._errors})


class BatchNotFinishedError(ConflictError):
    """The batch still runs."""

    code = "batch_not_finished"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"`{batch_id}` has not ended.", param="batch_id", headers={"x-should-retry": "false"})


class NothingToRetryError(BadRequestError):
    """No line of the batch is meant."""

    code = "nothing_to_retry"

    def __init__(self) -> None:
        super().__init__("No line of the batch matches.")
