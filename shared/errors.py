"""Errors a caller can see.  Class names are those of the OpenAI SDK where it has one; one `code` per class.

Those of accounts and passwords are in `shared.account_errors`, of budgets in `shared.admission.errors`, of new
providers in `shared.providers.errors`, of files in `shared.files.errors`, of forms in `api.forms`, of bodies in
`api.bodies`, of responses in `shared.responses.errors`, of reading logs in `shared.request_logs.errors`.

ApiError                            500  internal_error
├── BadRequestError                 400  a well-formed request that cannot be served
│   ├── InvalidJsonError            400  the body is not JSON
│   ├── InvalidCursorError          400  a cursor nobody gave out
│   ├── InsufficientBudgetError     400  no money is left
│   ├── ProviderTypeError           400  this provider type cannot serve this router type
│   └── ExpirationTooFarError       400  keys may not live that long
├── AuthenticationError             401  no usable bearer key
│   └── InvalidPasswordError        401  wrong password
├── PermissionDeniedError           403  the key lacks the right
│   ├── AccountExpiredError         403  the account's time is over
│   ├── ModelNotAllowedError        403  the role forbids this model
│   ├── InconsistentModelError      403  another model than the router's other providers have
│   └── ReservedEmailError          403  nobody may have this email
├── NotFoundError                   404  absent, or not visible to the caller
│   ├── PasswordNotSetError         404  the account has no password
│   ├── ModelNotFoundError          404  no router serves this model
│   └── CompletionNotFoundError     404  no chat completion with this id
├── MethodNotAllowedError           405
├── ConflictError                   409  already_exists
│   ├── InUseError                  409  something else needs it
│   ├── JobNotFinishedError         409  poll again
│   └── JobFailedError              409  the job has no result to act on
├── GoneError                       410  was here; carries a tombstone
├── BodyTooLargeError               413
├── UnsupportedMediaTypeError       415  the body is a form, which NEC's API does not take
├── UnprocessableEntityError        422  body, query or path does not match its schema
│   ├── InvalidFieldError           422  a rule between fields is broken
│   ├── ContextLengthError          422  an input is longer than the model takes
│   └── WrongModelTypeError         422  the router does not serve this kind of request
├── ProviderNotReachableError       424  a provider to be added does not answer or lacks the model
├── RateLimitError                  429  ask again later
│   ├── CarbonBudgetExceededError   429  the month's CO2e is used up
│   └── QueueFullError              429  the tenant has too many unfinished jobs
├── StorageUnavailableError         503  the database takes no writes
├── QueueUnavailableError           503  Redis is away
├── ProviderUnavailableError        503  every provider of the router failed
├── WaitExceededError               504  the caller's own `Prefer: wait=N` has passed
└── ReplayedError                        how a job ended, replayed with the status and code it was stored with
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec
from msgspec import Struct, json

ErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]


_STEP: Final = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")
"""One step of msgspec's path `$.messages[0].content`; `[...]`, any member of a dict, is none."""


class ErrorDetail(Struct, kw_only=True):
    """The `error` object of the OpenAI wire format; all four members are always there."""

    message: str
    type: ErrorType
    param: str | None
    code: str


class FieldIssue(Struct, kw_only=True):
    """One broken rule of a schema; `loc` starts with `body`, `query` or `path`."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(Struct, kw_only=True):
    """Body of every non-2xx answer; `detail` is the message, or for 422 the list of broken rules."""

    error: ErrorDetail
    detail: str | list[FieldIssue]


class StoredError(Struct, kw_only=True):
    """An error as a job keeps it; `status` is the HTTP status under which it is replayed."""

    message: str
    type: ErrorType
    param: str | None
    code: str
    status: int


class ApiError(Exception):
    """Base of all errors that reach a caller; `status`, `type` and `code` are fixed per subclass."""

    status: ClassVar[int] = 500
    type: ClassVar[ErrorType] = "server_error"
    code: ClassVar[str] = "internal_error"
    headers: ClassVar[dict[str, str]] = {}
    """Sent with every error of the class."""

    def __init__(self, message: str, *, param: str | None = None, headers: dict[str, str] | None = None) -> None:
        if not message.isascii():  # a header may be any bytes, and a message may repeat it
            message = message.encode(errors="replace").decode()
        super().__init__(message)
        self.message = message
        self.param = param
        self.extra_headers = {**self.headers, **(headers or {})}

    @property
    def http_status(self) -> int:
        """Return the status to answer with."""
        return self.status

    def detail(self) -> str | list[FieldIssue]:
        """Return the second form of the message."""
        return self.message

    def error(self) -> ErrorDetail:
        """Return the `error` object; never the traceback or the cause."""
        return ErrorDetail(message=self.message, type=self.type, param=self.param, code=self.code)

    def body(self) -> bytes:
        """Return the JSON body."""
        return json.encode(ErrorBody(error=self.error(), detail=self.detail()))

    def stored(self) -> StoredError:
        """Return the error in the form a job keeps."""
        detail = self.error()
        return StoredError(
            message=detail.message, type=detail.type, param=detail.param, code=detail.code, status=self.http_status
        )


class BadRequestError(ApiError):
    """A well-formed request that cannot be served."""

    status, type, code = 400, "invalid_request_error", "bad_request"


class InvalidJsonError(BadRequestError):
    """The body is not JSON."""

    code = "invalid_json"

    def __init__(self) -> None:
        super().__init__("Request body is not valid JSON.")


class InvalidCursorError(BadRequestError):
    """A cursor of this list or stream was expected."""

    code = "invalid_cursor"


class ProviderTypeError(BadRequestError):
    """A provider of this type cannot serve a router of this type."""

    code = "provider_type_not_allowed"


class AuthenticationError(ApiError):
    """There is no usable bearer key."""

    status, type, code = 401, "authentication_error", "invalid_api_key"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class PermissionDeniedError(ApiError):
    """The key lacks the right the operation asks for."""

    status, type, code = 403, "permission_error", "permission_denied"


class ModelNotAllowedError(PermissionDeniedError):
    """The caller's role has a limit of 0 for this model."""

    code = "model_not_allowed"

    def __init__(self) -> None:
        super().__init__("Insufficient permissions to access the model.", param="model")


class NotFoundError(ApiError):
    """No such object, or not visible to the caller; both look the same on purpose."""

    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFoundError(NotFoundError):
    """No router serves this model name or alias, or the caller may not see it."""

    code = "model_not_found"

    def __init__(self) -> None:
        super().__init__("Model not found.", param="model")


class CompletionNotFoundError(NotFoundError):
    """The caller has no chat completion with this id."""

    code = "completion_not_found"

    def __init__(self, completion_id: str) -> None:
        super().__init__(f"No chat completion `{completion_id}`.", param="id")


class MethodNotAllowedError(ApiError):
    """The path exists, the method on it does not."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class ConflictError(ApiError):
    """The name is taken."""

    status, type, code = 409, "invalid_request_error", "already_exists"


class InUseError(ConflictError):
    """Something else needs it."""

    code = "in_use"


class JobNotFinishedError(ConflictError):
    """The job has no result yet; stock clients retry a 409 by themselves."""

    code = "job_not_finished"


class JobFailedError(ConflictError):
    """The job ended without a result."""

    code = "job_failed"
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}


class GoneError(ApiError):
    """The object was here and was removed by retention or by its owner."""

    status, type, code = 410, "invalid_request_error", "job_gone"

    def __init__(self, message: str, *, tombstone: Any = None) -> None:
        super().__init__(message)
        self.tombstone = tombstone

    def body(self) -> bytes:
        """Return the JSON body with the member `tombstone`."""
        return json.encode({"error": self.error(), "detail": self.message, "tombstone": self.tombstone})


class BodyTooLargeError(ApiError):
    """The body is over the limit."""

    status, type, code = 413, "invalid_request_error", "body_too_large"


class UnsupportedMediaTypeError(ApiError):
    """The body is a form; NEC's API takes JSON only."""

    status, type, code = 415, "invalid_request_error", "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__("The body must be `application/json`.")


class UnprocessableEntityError(ApiError):
    """Body, query or path does not match its schema."""

    status, type, code = 422, "invalid_request_error", "invalid_request"

    def __init__(self, loc: list[str | int], message: str, kind: str = "value_error") -> None:
        path = ".".join(str(step) for step in loc[1:])
        super().__init__(message, param=path or None)
        self._issue = FieldIssue(loc=loc, msg=message, type=kind)

    def at(self, names: Mapping[str, str]) -> "UnprocessableEntityError":
        """Return the same for a request whose members have other names."""
        loc = [names.get(step, step) if number == 1 else step for number, step in enumerate(self._issue.loc)]  # type: ignore[arg-type]
        return UnprocessableEntityError(loc, self.message, self._issue.type)

    def detail(self) -> list[FieldIssue]:
        """Return the broken rule."""
        return [self._issue]


class InvalidFieldError(UnprocessableEntityError):
    """A rule that involves more than the schema of one member is broken."""


class ContextLengthError(UnprocessableEntityError):
    """An input is longer than the model takes."""

    code = "context_length_exceeded"


class WrongModelTypeError(ApiError):
    """The router exists but does not serve this kind of request."""

    status, type, code = 422, "invalid_request_error", "wrong_model_type"

    def __init__(self) -> None:
        super().__init__("Wrong model type.", param="model")


class RateLimitError(ApiError):
    """Too many in too short a time; `retry-after` says when to ask again; callers are told 120 s at most."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, headers={"retry-after": str(max(retry_after_s, 1))})


class StorageUnavailableError(ApiError):
    """The database takes no writes, or too many wait."""

    status, code = 503, "storage_unavailable"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1", "x-should-retry": "true"}

    def __init__(self) -> None:
        super().__init__("The request could not be stored, please try again.")


class QueueUnavailableError(ApiError):
    """Redis cannot be reached."""

    status, code = 503, "queue_unavailable"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1", "x-should-retry": "true"}

    def __init__(self) -> None:
        super().__init__("The queue cannot be reached, please try again.")


class OverloadedError(ApiError):
    """More jobs or callers wait than the installation is made for."""

    status, code = 503, "overloaded"
    headers: ClassVar[dict[str, str]] = {"retry-after": "5", "x-should-retry": "true"}

    def __init__(self) -> None:
        super().__init__("Too many requests are waiting, please try again later.")


class ProviderUnavailableError(ApiError):
    """Every provider of the router failed."""

    status, code = 503, "provider_unavailable"


class WaitExceededError(ApiError):
    """The caller's own limit for waiting has passed; the job goes on."""

    status, code = 504, "wait_exceeded"
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}


class ReplayedError(ApiError):
    """How a job ended, replayed with the status and code it was stored with."""

    def __init__(self, stored: StoredError, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(stored.message, param=stored.param, headers=headers)
        self._stored = stored

    @property
    def http_status(self) -> int:
        """Return the stored status."""
        return self._stored.status

    def error(self) -> ErrorDetail:
        """Return the stored error object."""
        return ErrorDetail(
            message=self._stored.message, type=self._stored.type, param=self._stored.param, code=self._stored.code
        )


def to_unprocessable(error: msgspec.ValidationError, origin: Sequence[str | int]) -> UnprocessableEntityError:
    """Translate msgspec's message, ``Expected `int` >= 1 - at `$.max_tokens` ``, into a location and a text."""
    message, _, path = str(error).partition(" - at `")
    path = path.rpartition("` in `")[2]  # a key of a dict is reported as "key in" its dict
    loc: list[str | int] = [*origin]
    for name, index in _STEP.findall(path):
        loc.append(int(index) if index else name)
    if message.startswith("Object missing required field `"):
        loc.append(message.split("`")[1])
        return UnprocessableEntityError(loc, message, "missing")
    return UnprocessableEntityError(loc, message, "type_error" if ", got `" in message else "value_error")
