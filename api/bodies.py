"""Read a JSON body, and tell what no decoder should be given."""

import asyncio
import re
from collections.abc import Awaitable
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from msgspec import json

from api.state import STATE
from shared.errors import ApiError, BodyTooLargeError, InvalidJsonError
from shared.unreadable import UNREADABLE

T = TypeVar("T")
_MAX_DEPTH: Final = 256
_MAX_CONTAINERS: Final = 1_000_000
_TEXT: Final = re.compile(rb'"[^"]*"')
_NOT_STRUCTURE: Final = bytes(character for character in range(256) if character not in b'[]{}"')


class BodyTimeoutError(ApiError):
    """The body does not come."""

    status, type, code = 408, "invalid_request_error", "body_timeout"

    def __init__(self) -> None:
        super().__init__("The request body did not come in time.", headers={"connection": "close"})


async def read_body(request: web.Request) -> bytes:
    """Return the body as received; raises `BodyTimeoutError`, `BodyTooLargeError` and `InvalidJsonError`."""
    limit = request.app[STATE].settings.max_body_bytes
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    try:
        if request.content.is_eof():  # all of it has come: a timer would cost more than the rest of this
            return await request.read()
        return await in_time(request, request.read())
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limit) from None
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise InvalidJsonError from error


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"Request body is larger than {limit} bytes.")


async def in_time(request: web.Request, arriving: Awaitable[T]) -> T:
    """Return what arrives of a body; raises `BodyTimeoutError`."""
    try:
        async with asyncio.timeout(request.app[STATE].settings.body_timeout_s):
            return await arriving
    except TimeoutError as error:
        raise BodyTimeoutError from error


def is_text(body: bytes) -> bool:
    """Return whether the body is UTF-8 as a whole; a decoder does not look at members that nobody asks for."""
    try:
        _ = body.isascii() or body.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_huge(body: bytes) -> bool:
    """Return whether the document has more lists and objects than anybody needs; they cost far more than their text."""
    return len(body) > _MAX_CONTAINERS and body.count(b"[") + body.count(b"{") > _MAX_CONTAINERS


def is_deep(body: bytes) -> bool:
    """Return whether the document is nested so deeply that reading or rewriting it again may fail.

    Works on whole documents at the speed of C: what is not a bracket is removed, then the innermost pairs, level by
    level.
    """
    if body.count(b"[") + body.count(b"{") <= _MAX_DEPTH:
        return False
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, delete=_NOT_STRUCTURE)
    brackets = _TEXT.sub(b"", plain.replace(b'""', b""))
    for _ in range(_MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return False
    return True


def is_json(body: bytes) -> bool:
    """Return whether the body is well-formed as a whole; a decoder stops at the first member that does not fit."""
    try:
        json.decode(body)
    except (msgspec.ValidationError, RecursionError):
        return True
    except UNREADABLE:
        return False
    return True
