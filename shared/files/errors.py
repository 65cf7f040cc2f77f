"""Errors of files that callers send."""

from typing import Final

from shared.errors import ApiError, ConflictError, GoneError, NotFoundError

MAX_FILE_BYTES: Final = 20 * 1024 * 1024
"""Of each file a caller sends."""


class FileTooLargeError(ApiError):
    """A file is over the limit."""

    status, type, code = 413, "invalid_request_error", "file_too_large"

    def __init__(self, max_bytes: int = MAX_FILE_BYTES) -> None:
        super().__init__(f"File size limit exceeded (max: {max_bytes} bytes).")


class UnsupportedFileTypeError(ApiError):
    """The file is not of a kind that this operation takes."""

    status, type, code = 422, "invalid_request_error", "unsupported_file_type"

    def __init__(self, param: str, message: str = "Unsupported file type.") -> None:
        super().__init__(message, param=param)


class UploadNotFoundError(NotFoundError):
    """No such file, or it is not the caller's."""

    code = "file_not_found"

    def __init__(self, file_id: str) -> None:
        super().__init__(f"No file `{file_id[:100]}`.", param="file_id")


class UploadGoneError(GoneError):
    """The file was here; it has expired or was deleted."""

    code = "file_gone"


class FileInUseError(ConflictError):
    """A batch is reading the file."""

    code = "file_in_use"

    def __init__(self, batch_id: str) -> None:
        headers = {"x-should-retry": "false"}
        super().__init__(f"`{batch_id}` is still reading this file.", param="file_id", headers=headers)
