"""The API reference, built from the same annotations that decode the requests."""

import inspect
import re
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from aiohttp import web
from msgspec import NODEFAULT
from msgspec.json import schema_components
from msgspec.structs import fields

from api.bodies import BodyTimeoutError
from api.forms import FORM, InvalidFormError
from api.http import Endpoint
from api.idempotency import HEADER, IDEMPOTENCY_ERRORS
from shared.dialects import MOUNTS, describe_table
from shared.errors import (
    ApiError,
    AuthenticationError,
    BodyTooLargeError,
    ErrorBody,
    InvalidJsonError,
    PermissionDeniedError,
    StorageUnavailableError,
    UnprocessableEntityError,
    UnsupportedMediaTypeError,
)
from shared.files.errors import FileTooLargeError
from shared.files.uploads import UploadedFile
from shared.version import VERSION

_DIALECTS: Final = (
    "What callers use is served at the root and under `/vultr`, `/nec`, `/inflection`, with the defaults of that API. "
    "Without such a mount the `dialect` of the key decides. A parameter that a chat leaves out is taken from the "
    "`default_parameters` of its router, then from this table; where it has none, the provider decides. Without a "
    "dialect, errors are told as `application/problem+json` (RFC 9457) to who asks for it: the same body with more.\n\n"
)
_SERVERS: Final = [{"url": "/"}, *({"url": f"/{name}", "description": f"Dialect `{name}`."} for name in MOUNTS)]
_REF = "#/components/schemas/{name}"
OPENAPI: "web.AppKey[partial[bytes]]" = web.AppKey("openapi", partial)
"""Returns the reference of the running app, as it is served."""


def build_openapi(endpoints: Iterable[Endpoint], *, title: str) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document (msgspec emits JSON Schema 2020-12, which 3.1 uses as is)."""
    endpoints = list(endpoints)
    types = list({repr(t): t for endpoint in endpoints for t in _types(endpoint)}.values())
    schemas, components = schema_components(types, ref_template=_REF)
    by_type = dict(zip(map(repr, types), schemas, strict=True)) | {repr(bytes): {}}
    if UploadedFile.__name__ in components:
        components[UploadedFile.__name__] = {"type": "string", "format": "binary", "description": "A file."}
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, by_type)
        if not endpoint.is_mounted:
            operation["servers"] = _SERVERS[:1]
        paths.setdefault(plain_path(endpoint.path), {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION, "description": _DIALECTS + describe_table()},
        "servers": _SERVERS,
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def plain_path(path: str) -> str:
    """Return an aiohttp path without the patterns of its parameters."""
    return re.sub(r"{(\w+):[^}]+}", r"{\1}", path)


def _types(endpoint: Endpoint) -> list[Any]:
    query = [field.type for field in fields(endpoint.query)] if endpoint.query else []
    candidates = [
        endpoint.body, endpoint.form, endpoint.returns, endpoint.streams, endpoint.accepted, ErrorBody,
        *endpoint.path_params.values(), *query,
    ]  # fmt: skip
    return [t for t in candidates if t is not None]


def _operation(endpoint: Endpoint, by_type: dict[str, Any]) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(endpoint.handler) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "tags": [endpoint.tag],
        "summary": summary,
        "description": " ".join(description.split()),
        "parameters": _parameters(endpoint, by_type),
        "responses": _responses(endpoint, by_type),
    }
    if endpoint.right is not None:
        operation["security"] = [{"bearer": []}]
    if endpoint.body is not None:
        content = {"application/json": {"schema": by_type[repr(endpoint.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    if endpoint.form is not None:
        content = {FORM: {"schema": by_type[repr(endpoint.form)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


_KEY: Final[dict[str, Any]] = {
    "name": HEADER, "in": "header", "required": False, "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key gets the answer of the first request again: for a day, and as long as its result is "
    "kept; another body is refused.",
}  # fmt: skip


def _parameters(endpoint: Endpoint, by_type: dict[str, Any]) -> list[dict[str, Any]]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": by_type[repr(t)]}
        for name, t in endpoint.path_params.items()
    ]
    for field in fields(endpoint.query) if endpoint.query else ():
        required = field.default is NODEFAULT and field.default_factory is NODEFAULT
        schema = by_type[repr(field.type)]
        parameter = {"name": field.name, "in": "query", "required": required, "schema": schema}
        if schema.get("type") == "object":
            parameter |= {"style": "deepObject", "explode": True}
        parameters.append(parameter)
    if endpoint.takes_key or endpoint.prepare is not None:
        parameters.append(_KEY)
    return parameters


def _responses(endpoint: Endpoint, by_type: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if endpoint.returns is not None:
        content[endpoint.media_type] = {"schema": by_type[repr(endpoint.returns)]}
        content |= {media_type: {"schema": {"type": "string"}} for media_type in endpoint.other_media_types}
    if endpoint.streams is not None:
        content["text/event-stream"] = {"schema": by_type[repr(endpoint.streams)]}
    responses: dict[str, Any] = {str(endpoint.status): {"description": "Success."}}
    if content and endpoint.status != 204:
        responses[str(endpoint.status)]["content"] = content
    if endpoint.accepted is not None:
        job = {"application/json": {"schema": by_type[repr(endpoint.accepted)]}}
        responses["202"] = {"description": "Accepted: `Prefer: respond-async`.", "content": job}
    for error in (*endpoint.raises, *_common_errors(endpoint)):
        response = responses.setdefault(
            str(error.status),
            {"description": "", "content": {"application/json": {"schema": by_type[repr(ErrorBody)]}}},
        )
        response["description"] = f"{response['description']} `{error.code}`: {inspect.getdoc(error)}".strip()
    return responses


def _common_errors(endpoint: Endpoint) -> list[type[ApiError]]:
    errors: list[type[ApiError]] = []
    if endpoint.right is not None:
        errors += [AuthenticationError, PermissionDeniedError]
    if endpoint.body is not None:
        errors += [InvalidJsonError, BodyTimeoutError, BodyTooLargeError, UnsupportedMediaTypeError]
    if endpoint.form is not None:
        errors += [InvalidFormError, BodyTimeoutError, BodyTooLargeError, FileTooLargeError]
    if any(part is not None for part in (endpoint.body, endpoint.form, endpoint.query)) or endpoint.path_params:
        errors.append(UnprocessableEntityError)
    if endpoint.is_inference:
        errors.append(StorageUnavailableError)
    if endpoint.takes_key:
        errors += IDEMPOTENCY_ERRORS
    return errors
