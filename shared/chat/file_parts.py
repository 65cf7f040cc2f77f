"""Files of chats that are named by the id of an upload: `{"type": "file", "file": {"file_id": "file-.."}}`."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from mimetypes import guess_type
from typing import Any, Final

from msgspec import Struct

MEMBER: Final = "file_id"
IN_BODY: Final = b'"file_id"'
"""What a body has that may name a file."""
_UNKNOWN: Final = "application/octet-stream"


class FileContent(Struct, frozen=True):
    """A file as a provider gets it."""

    name: str
    data: bytes


def file_ids(messages: Sequence[Any]) -> list[str]:
    """Return the ids of the files that messages name."""
    return [file[MEMBER] for file in _files(messages)]


def put_files(messages: Sequence[Any], contents: Mapping[str, FileContent]) -> None:
    """Put the contents of files into the messages, in place of their ids."""
    for file in _files(messages):
        content = contents.get(file[MEMBER])
        if content is None:
            continue
        del file[MEMBER]
        kind = guess_type(content.name)[0] or _UNKNOWN
        file["filename"] = file.get("filename") or content.name
        file["file_data"] = f"data:{kind};base64,{b64encode(content.data).decode()}"


def _files(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            file = part.get("file") if isinstance(part, dict) else None
            if isinstance(file, dict) and isinstance(file.get(MEMBER), str) and file.get("file_data") is None:
                yield file
