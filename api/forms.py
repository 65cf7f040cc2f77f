"""Read `multipart/form-data`: fields in any order, a file on its way into the store.

The file is counted while it comes and never held in memory; what is too large is refused at the first byte over the
limit.  It is stored under the id that the job will have, see `Call.file_id`, or, if the form is an `UploadForm`, under
an id of its own, see `Call.upload_id`.  `Call.body`, which becomes the request of a job, is the form as JSON:
`{"model": "whisper", "file": {"name": ..}, "timestamp_granularities[]": ["word"]}`.
"""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final, get_args

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage
from msgspec import json
from msgspec.structs import fields, replace

from api.bodies import in_time
from api.call import Call
from shared.errors import BadRequestError, BodyTooLargeError, StorageUnavailableError, UnprocessableEntityError
from shared.files.errors import MAX_FILE_BYTES, FileTooLargeError
from shared.files.store import FileStoreError
from shared.files.uploads import HEAD_BYTES, UploadedFile, UploadForm
from shared.ids import new_ulid
from shared.unreadable import UNREADABLE

FORM: Final = "multipart/form-data"
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")
_PAIR: Final = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_MAX_FIELDS: Final = 1000
_CHUNK_BYTES: Final = 256 * 1024
_MAX_TEXT_BYTES: Final = 1024 * 1024
"""Of all fields together that are not the file."""


class InvalidFormError(BadRequestError):
    """The body is not a well-formed multipart form."""

    code = "invalid_form"

    def __init__(self) -> None:
        super().__init__("Request body is not a valid multipart form.")


async def read_form(call: Call, kind: Any) -> Any:
    """Return the form as a `kind`, a Struct.

    Raises:
        InvalidFormError: the body is no multipart form.
        BodyTimeoutError: it does not come.
        FileTooLargeError: the file is over the limit.
        BodyTooLargeError: the other fields are.
        UnprocessableEntityError: it is another media type, or a file was expected, or only one.
        msgspec.ValidationError: the fields do not fit.
        StorageUnavailableError: the file cannot be stored.

    """
    if call.request.content_type != FORM:
        raise UnprocessableEntityError(["body"], f"Expected {FORM}")
    form, members = _Form(call, kind), fields(kind)
    try:
        reader = await call.request.multipart()
        while (part := await in_time(call.request, reader.next())) is not None:
            if not isinstance(part, BodyPartReader):
                raise InvalidFormError
            await form.take(part)
    except (ValueError, AssertionError, RuntimeError, BadHttpMessage, web.RequestPayloadError) as error:
        raise InvalidFormError from error
    except FileStoreError as error:
        raise StorageUnavailableError from error
    if any(one.name == "metadata" and one.type is not str for one in members):
        _gather_metadata(form.members)
    call.body = json.encode(form.members | {name: replace(file, head=b"") for name, file in form.files.items()})
    call.received = call.body
    return msgspec.convert(form.members, kind, strict=False)


def _gather_metadata(members: dict[str, Any]) -> None:
    """Make one member of the fields `metadata[key]`, as stock clients write pairs, or of a JSON text."""
    pairs = {match[1]: members.pop(name) for name in list(members) if (match := _PAIR.fullmatch(name))}
    if pairs:
        members["metadata"] = pairs
    elif isinstance(members.get("metadata"), str):
        try:
            members["metadata"] = json.decode(members["metadata"])
        except UNREADABLE as error:
            raise UnprocessableEntityError(["body", "metadata"], "Expected an object of texts") from error


class _Form:
    """What has been read so far."""

    def __init__(self, call: Call, kind: Any) -> None:
        self.members: dict[str, Any] = {}
        self.files: dict[str, UploadedFile] = {}
        self._call = call
        self._file_names = {one.name for one in fields(kind) if UploadedFile in (one.type, *get_args(one.type))}
        self._list_names = {one.name for one in fields(kind) if one.default_factory is list}
        """May be repeated."""
        self._is_upload = issubclass(kind, UploadForm)
        self._nameless = "" if self._is_upload else "file"
        self._max_bytes = kind.max_file_bytes if self._is_upload else MAX_FILE_BYTES
        self._text_bytes = 0
        self._count = 0

    async def take(self, part: BodyPartReader) -> None:
        """Read one field to its end."""
        name = part.name
        self._count += 1
        if name is None or self._count > _MAX_FIELDS:
            raise InvalidFormError
        name.encode()  # what is not UTF-8 was kept as surrogates; `UnicodeError` is an invalid form, too
        if name in self._file_names:
            self.members[name] = self.files[name] = await self._store(name, part)
            return
        text = b"".join([chunk async for chunk in self._counted(part)]).decode()
        if "\x00" in name or "\x00" in text:
            raise UnprocessableEntityError(["body", name.replace("\x00", "")], "NUL characters are not allowed")
        if name.endswith("[]") or name in self._list_names:
            self.members.setdefault(name, []).append(text)
        else:
            self.members[name] = text

    async def _counted(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        while chunk := await in_time(self._call.request, part.read_chunk()):
            self._text_bytes += len(chunk)
            if self._text_bytes > _MAX_TEXT_BYTES:
                raise BodyTooLargeError(f"The fields of the form are larger than {_MAX_TEXT_BYTES} bytes.")
            yield chunk

    async def _store(self, name: str, part: BodyPartReader) -> UploadedFile:
        if part.filename is None:
            raise UnprocessableEntityError(["body", name], "Expected a file")
        if name in self.members:
            raise UnprocessableEntityError(["body", name], "Expected one file")
        size, lines, head, digest = 0, 0, b"", hashlib.sha256()

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size, lines, head
            while chunk := await in_time(self._call.request, part.read_chunk(_CHUNK_BYTES)):
                size += len(chunk)
                lines += chunk.count(b"\n")
                if size > self._max_bytes:
                    raise FileTooLargeError(self._max_bytes)
                if len(head) < HEAD_BYTES:
                    head = (head + chunk)[:HEAD_BYTES]
                digest.update(chunk)
                yield chunk

        file_id = new_ulid()
        if self._is_upload:
            self._call.upload_id = file_id
            await self._call.state.uploads.write(file_id, counted())
        else:
            self._call.file_id = file_id
            await self._call.state.files.write(file_id, counted())
        return UploadedFile(
            name=part.filename.encode(errors="replace").decode().replace("\x00", "")[:255] or self._nameless,
            content_type=_media_type(part.headers.get("Content-Type", "")),
            size_bytes=size,
            sha256=digest.hexdigest(),
            lines=lines if self._is_upload else 0,
            head=head,
        )


def _media_type(header: str) -> str:
    """Return the media type without parameters; that of any bytes if it is none."""
    media_type = header.partition(";")[0].strip().lower()
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream"
