"""Why the request log cannot be read."""

from typing import ClassVar

from shared.errors import ApiError


class LogsUnavailableError(ApiError):
    """The database that request logs and usage reports are read from does not answer, or broke off."""

    status, code = 503, "logs_unavailable"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1", "x-should-retry": "true"}

    def __init__(self) -> None:
        super().__init__("Logs and usage reports cannot be read now, please try again.")
