"""Refusals of the Responses API; their places in the tree are drawn in `shared.errors`."""

from typing import ClassVar, Final

from shared.errors import BadRequestError, ConflictError, GoneError, NotFoundError


class UnsupportedParameterError(BadRequestError):
    """A member of OpenAI's API that cannot be served."""

    code = "unsupported_parameter"


class UnsupportedToolError(BadRequestError):
    """A tool other than a function."""

    code = "unsupported_tool"

    def __init__(self, kind: str, *, param: str) -> None:
        super().__init__(f"Tools of type `{kind[:100]}` are not supported, only `function`.", param=param)


class NotCancellableError(BadRequestError):
    """Only responses in the background can be cancelled."""

    code = "not_cancellable"

    def __init__(self) -> None:
        super().__init__("Only responses created with background=true can be cancelled.", param="response_id")


class ResponseNotFoundError(NotFoundError):
    """The caller has no response with this id, or it was not stored."""

    code = "response_not_found"

    def __init__(self, response_id: str, param: str = "response_id") -> None:
        super().__init__(f"No response `{response_id}`.", param=param)


class ItemNotFoundError(NotFoundError):
    """No stored response of the caller has an item with this id."""

    code = "item_not_found"

    def __init__(self, item_id: str, param: str) -> None:
        super().__init__(f"No item `{item_id}`.", param=param)


class ResponseNotFinishedError(ConflictError):
    """The response that is to be continued is still made; stock clients try again by themselves."""

    code = "response_not_finished"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1", "retry-after-ms": "500"}

    def __init__(self, response_id: str) -> None:
        super().__init__(f"The response `{response_id}` is not finished.", param="previous_response_id")


CREATE_ERRORS: Final = (
    UnsupportedParameterError, UnsupportedToolError, ResponseNotFoundError, ItemNotFoundError, ResponseNotFinishedError,
)  # fmt: skip
"""Of making a response, beside those of every job."""


class EventsGoneError(GoneError):
    """The events were removed with the response."""

    code = "events_gone"
