"""From a request to the arguments of its handler."""

from typing import TYPE_CHECKING, Any, Final, get_origin

import msgspec
from aiohttp import web
from msgspec import json
from msgspec.structs import fields

from api.bodies import is_deep, is_huge, is_json, is_text, read_body
from api.call import Call
from api.forms import read_form
from shared.dialects import NEC
from shared.errors import InvalidJsonError, UnprocessableEntityError, UnsupportedMediaTypeError, to_unprocessable

if TYPE_CHECKING:
    from api.http import Endpoint

_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_CURSORS: Final = frozenset({"after", "starting_after"})
"""Have an error of their own for what nobody gave out."""


async def bind(call: Call, endpoint: "Endpoint", decoder: "json.Decoder[Any] | None") -> dict[str, Any]:
    """Return the handler's arguments; raises the 4xx of what does not fit."""
    arguments: dict[str, Any] = {}
    origin = ["path"]
    try:
        for name, kind in endpoint.path_params.items():
            origin = ["path", name]
            arguments[name] = msgspec.convert(call.request.match_info[name], kind, strict=False)
        if endpoint.query is not None:
            origin = ["query"]
            arguments["query"] = msgspec.convert(_query(call.request, endpoint.query), endpoint.query, strict=False)
        if endpoint.form is not None:
            origin = ["body"]
            arguments["form"] = await read_form(call, endpoint.form)
        if decoder is not None:
            origin = ["body"]
            call.body = call.received = await _read(call)
            arguments["body"] = decoder.decode(call.body)
            if is_deep(call.body):
                raise InvalidJsonError
    except msgspec.ValidationError as error:
        if decoder is not None and origin == ["body"] and not is_json(call.body):
            raise InvalidJsonError from error
        raise to_unprocessable(error, origin) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJsonError from error
    return arguments


async def _read(call: Call) -> bytes:
    """Return a body that is to be JSON; raises `UnsupportedMediaTypeError`, `BodyTooLargeError`, `InvalidJsonError`."""
    if call.dialect == NEC and call.request.content_type in _FORMS:
        raise UnsupportedMediaTypeError
    body = await read_body(call.request)
    if is_huge(body) or not is_text(body):
        raise InvalidJsonError
    return body


def _query(request: web.Request, kind: Any) -> dict[str, Any]:
    """Return the query by member; lists are repeated members, dicts are spelled `name[key]=value`.

    Lists that refuse what nobody knows also refuse what counts once and is there twice, and a pair without a key.
    """
    found: dict[str, Any] = {}
    is_strict = kind.__struct_config__.forbid_unknown_fields
    members = {field.name: get_origin(field.type) for field in fields(kind)}
    for name, value in request.query.items():
        if "\x00" in name or ("\x00" in value and name not in _CURSORS):
            raise UnprocessableEntityError(["query", name.replace("\x00", "")], "NUL characters are not allowed")
        head, bracket, rest = name.partition("[")
        if members.get(name) is list:
            found.setdefault(name, []).append(value)
        elif bracket and members.get(head) is list:
            found.setdefault(head, []).append(value)
        elif bracket and members.get(head) is dict:
            pairs, key = found.setdefault(head, {}), rest.removesuffix("]")
            if is_strict and (key in pairs or not key or not rest.endswith("]")):
                raise UnprocessableEntityError(["query", name], f"Expected `{head}[key]=value`, each key once")
            pairs[key] = value
        elif name in members or is_strict:
            if is_strict and name in found:
                raise UnprocessableEntityError(["query", name], "Expected one value")
            found[name] = value  # what nobody knows is refused by the Struct
    return found
