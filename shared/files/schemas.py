"""Wire types of /v1/files.  Source: the OpenAI surfaces for asynchronous work, section 4."""

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta, Struct, field

from shared.errors import BadRequestError, UnprocessableEntityError
from shared.files.uploads import UploadedFile, UploadForm
from shared.lists import CursorPage

BATCH_PURPOSE: Final = "batch"
OUTPUT_PURPOSE: Final = "batch_output"
FILE_PREFIX: Final = "file-"
MAX_UPLOAD_BYTES: Final = 512 * 1024 * 1024
MAX_BATCH_BYTES: Final = 200 * 1024 * 1024
BATCH_FILE_TTL_S: Final = 30 * 86_400
_LEAST_TTL_S, _MOST_TTL_S = 3600, 2_592_000

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class BatchFileTooLargeError(BadRequestError):
    """The input of a batch is over the limit."""

    code = "file_too_large"

    def __init__(self) -> None:
        super().__init__(f"The file of a batch has at most {MAX_BATCH_BYTES} bytes.", param="file")


class EmptyFileError(BadRequestError):
    """A file without bytes or without a name."""

    code = "empty_file"


class CreateFileForm(UploadForm, kw_only=True):
    """Form of POST /v1/files."""

    max_file_bytes: ClassVar[int] = MAX_UPLOAD_BYTES

    file: UploadedFile
    purpose: Purpose
    expires_after_anchor: str | None = field(default=None, name="expires_after[anchor]")
    expires_after_seconds: int | None = field(default=None, name="expires_after[seconds]")

    def check(self) -> None:
        """Raise the 400 or 422 of what does not fit together."""
        if self.file.size_bytes == 0 or not self.file.name.strip():
            raise EmptyFileError("The file is empty." if self.file.name.strip() else "The file has no name.")
        if self.purpose == BATCH_PURPOSE and self.file.size_bytes > MAX_BATCH_BYTES:
            raise BatchFileTooLargeError
        if (self.expires_after_anchor, self.expires_after_seconds) != (None, None):
            if self.expires_after_anchor != "created_at":
                raise UnprocessableEntityError(["body", "expires_after[anchor]"], "Expected `created_at`")
            if not _LEAST_TTL_S <= (self.expires_after_seconds or 0) <= _MOST_TTL_S:
                message = f"Expected `int` of {_LEAST_TTL_S} to {_MOST_TTL_S}"
                raise UnprocessableEntityError(["body", "expires_after[seconds]"], message)

    @property
    def ttl_s(self) -> int | None:
        """Return how long the file is kept; None is until it is deleted."""
        if self.expires_after_seconds is not None:
            return self.expires_after_seconds
        return BATCH_FILE_TTL_S if self.purpose == BATCH_PURPOSE else None


class File(Struct, kw_only=True):
    """A file as its owner sees it.  Times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    object: Literal["file"] = "file"


FilePage = CursorPage[File]
"""One page of files, newest first unless asked otherwise."""


class FileDeleted(Struct, kw_only=True):
    """Answer of DELETE /v1/files/{file_id}."""

    id: str
    deleted: bool
    object: Literal["file"] = "file"


class ListFilesQuery(Struct, kw_only=True):
    """Query of GET /v1/files."""

    purpose: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class FileTombstone(Struct, kw_only=True):
    """What is left of a file that was removed."""

    id: str
    filename: str
    purpose: str
    created_at: int
    removed_at: int
    reason: str
    object: Literal["file.tombstone"] = "file.tombstone"
