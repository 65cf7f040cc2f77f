"""The body of an error, as the API of the caller has it."""

from typing import Final

from msgspec import Raw, json

from api.idempotency import IdempotencyKeyReusedError
from shared.dialects import OPENAI, VULTR
from shared.errors import ApiError, ErrorBody, FieldIssue

_KEY_REUSED: Final = IdempotencyKeyReusedError.code
"""Nothing is wrong with that body."""


def error_body(error: ApiError, dialect: str) -> bytes:
    """Return the error as JSON.

    Vultr's has the message once more; in NEC's and Inflection's, whatever is wrong with a body is told as a list.
    """
    detail = error.error()
    if dialect == VULTR:
        return json.encode({**json.decode(error.body(), type=dict[str, Raw]), "message": error.message})
    is_about_body = error.http_status == 422 and isinstance(error.detail(), str) and detail.code != _KEY_REUSED
    if dialect != OPENAI and is_about_body:
        loc: list[str | int] = ["body", *(detail.param or "").split(".")] if detail.param else ["body"]
        issue = FieldIssue(loc=loc, msg=error.message, type="value_error")
        return json.encode(ErrorBody(error=detail, detail=[issue]))
    return error.body()
