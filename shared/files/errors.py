"""Errors of files that callers send."""

from typing import Final

from shared.errors import ApiError

MAX_FILE_BYTES: Final = 20 * 1024 * 1024
"""Of each file a caller sends."""


class FileTooLargeError(ApiError):
    """A file is over the limit."""

    status, type, code = 413, "invalid_request_error", "file_too_large"

    def __init__(self) -> None:
        super().__init__(f"File size limit exceeded (max: {MAX_FILE_BYTES} bytes).")


class UnsupportedFileTypeError(ApiError):
    """The file is not of a kind that this operation takes."""

    status, type, code = 422, "invalid_request_error", "unsupported_file_type"

    def __init__(self, param: str, message: str = "Unsupported file type.") -> None:
        super().__init__(message, param=param)
