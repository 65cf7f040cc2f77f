"""Read the input of a batch line by line, and say what is wrong with it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, ValidationError, json

from api.bodies import is_deep, is_huge, is_text
from api.call import Draft
from api.http import Endpoint
from api.keys import Caller
from api.state import State
from api.submission import Submission
from shared.batches.schemas import MAX_ERRORS, BatchError, BatchLine, CustomId
from shared.dialects import OPENAI, mount_of, split_mount
from shared.directory import Router
from shared.errors import ApiError, ModelNotAllowedError, ModelNotFoundError, to_unprocessable
from shared.ids import new_id
from shared.jobs.schemas import EMBEDDING
from shared.request_logs.redaction import FULL, strictest
from shared.unreadable import UNREADABLE

_BOM: Final = b"\xef\xbb\xbf"
_REQUIRED: Final = ("custom_id", "method", "url", "body")
_MAX_INPUTS: Final = 50_000
"""Texts to embed in one batch."""


async def read_lines(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, each with its number; one that is longer than `max_bytes` is cut there.

    Numbers count all lines from 1.  A byte order mark and white space around a line are no part of it.
    """
    number, rest = 0, b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            if text := _plain(line, number):
                yield number, text[: max_bytes + 1]
        rest = rest[: max_bytes + len(_BOM) + 1]
    if text := _plain(rest, number + 1):
        yield number + 1, text[: max_bytes + 1]


def _plain(line: bytes, number: int) -> bytes:
    return (line.removeprefix(_BOM) if number == 1 else line).strip()


class Line(Struct, frozen=True, kw_only=True):
    """A line that can become a job."""

    custom_id: str
    draft: Draft
    submission: Submission


class LineError(Exception):
    """What is wrong with a line."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class LineChecker:
    """Checks the lines of one input: each by itself, and all together."""

    def __init__(self, state: State, caller: Caller, endpoint: Endpoint, dialect: str | None) -> None:
        """`dialect` is that of lines whose `url` has no mount; None: that of the key."""
        self._dialect = dialect
        self._state = state
        self._caller = caller
        self._endpoint = endpoint
        self._decoder = json.Decoder(endpoint.body, strict=False)
        self._lines: dict[str, int] = {}
        """Line of each custom_id."""
        self._inputs = 0
        self.errors: list[BatchError] = []
        self.models: set[str] = set()
        self.routers: dict[int, Router] = {}
        """Those that the lines ask for."""
        self.came_under = FULL
        """Strictest content policy of what the lines go on from."""

    @property
    def count(self) -> int:
        """Return how many lines there were."""
        return len(self._lines)

    @property
    def is_hopeless(self) -> bool:
        """Return whether reading on would tell nothing new."""
        return len(self.errors) >= MAX_ERRORS or self.count > self._state.settings.batch_max_lines

    async def check(self, number: int, raw: bytes) -> Line | None:
        """Return the line, ready to become a job; None if something is wrong with it or the whole input."""
        try:
            line = self._decode(raw)
            self._check_envelope(line, number)
            submission, draft = await self._prepare(line)
        except LineError as error:
            if len(self.errors) < MAX_ERRORS:
                self.errors.append(BatchError(code=error.code, message=str(error), param=error.param, line=number))
            return None
        self.came_under = strictest(self.came_under, draft.came_under)
        self.models.add(submission.model)
        self.routers[submission.router.id] = submission.router
        return Line(custom_id=line.custom_id, draft=draft, submission=submission)

    def finish(self) -> None:
        """Note what is wrong with the input as a whole."""
        most = self._state.settings.batch_max_lines
        if self.count > most:
            self._add("too_many_tasks", f"A batch has at most {most} lines.")
        elif not self.count and not self.errors:
            self._add("empty_batch", "The input has no lines.")
        if self._inputs > _MAX_INPUTS:
            self._add("too_many_inputs", f"A batch has at most {_MAX_INPUTS} inputs to embed, this one {self._inputs}.")

    def _add(self, code: str, message: str) -> None:
        self.errors.insert(0, BatchError(code=code, message=message, param=None, line=None))
        del self.errors[MAX_ERRORS:]

    def _decode(self, raw: bytes) -> BatchLine:
        if len(raw) > self._state.settings.max_body_bytes or is_huge(raw) or is_deep(raw):
            raise LineError("invalid_json_line", "The line is too long or too deeply nested.")
        if not is_text(raw):
            raise LineError("invalid_json_line", "The line is not a JSON object.")
        try:
            return _LINE.decode(raw)
        except ValidationError as error:
            raise _envelope_error(raw, error) from error
        except UNREADABLE as error:
            raise LineError("invalid_json_line", "The line is not a JSON object.") from error

    def _check_envelope(self, line: BatchLine, number: int) -> None:
        if "\x00" in line.custom_id:
            raise LineError("invalid_custom_id", "`custom_id` has a NUL character.", "custom_id")
        first = self._lines.setdefault(line.custom_id, number)
        if first != number:
            message = f"custom_id `{line.custom_id}` was used on line {first}."
            raise LineError("duplicate_custom_id", message, "custom_id")
        if line.method != "POST":
            raise LineError("invalid_method", "`method` must be POST.", "method")
        if split_mount(line.url)[1] != self._endpoint.path:
            raise LineError("url_mismatch", f"`url` must be {self._endpoint.path}, the endpoint of the batch.", "url")

    async def _prepare(self, line: BatchLine) -> tuple[Submission, Draft]:
        """Return what the line asks for, checked as on its own route."""
        body, dialect = line.body, mount_of(line.url) or self._dialect
        try:
            request = self._decoder.decode(body)
        except ValidationError as error:
            raise _invalid(to_unprocessable(error, ["body"])) from error
        except RecursionError as error:
            raise LineError("invalid_json_line", "The line is too deeply nested.") from error
        except UNREADABLE as error:  # bytes that are no UTF-8 inside a text of the body
            raise LineError("invalid_json_line", "The line is not a JSON object.") from error
        draft = new_draft(self._state, self._caller, bytes(body), dialect)
        submission = await prepare(draft, self._endpoint, request)
        if submission.kind == EMBEDDING:
            self._inputs += submission.estimate.prompts
        return submission, draft


_LINE: Final = json.Decoder(BatchLine)


def new_draft(state: State, caller: Caller, body: bytes, dialect: str | None, *, is_stored: bool = False) -> Draft:
    """Return a request that nobody waits for; `dialect` None: that of the key."""
    return Draft(
        caller=caller, state=state, request_id=new_id("req_"), body=body, headers={}, is_stored=is_stored,
        dialect=dialect or caller.dialect or OPENAI,
    )  # fmt: skip


async def prepare(draft: Draft, endpoint: Endpoint, request: Any) -> Submission:
    """Return what a request asks for; raises `LineError`."""
    if endpoint.prepare is None:
        raise TypeError(f"{endpoint.path} makes no jobs")
    try:
        submission = await endpoint.prepare(draft, request)
    except (ModelNotFoundError, ModelNotAllowedError) as error:
        raise LineError("model_not_found", f"{error.message} ({draft.model})", "body.model") from error
    except ApiError as error:
        raise _invalid(error) from error
    if submission.stream:
        raise LineError("invalid_request", "A line cannot be streamed.", "body.stream")
    if submission.search is not None:
        raise LineError("invalid_request", "A line cannot search.", "body.tools")
    return submission


def _invalid(error: ApiError) -> LineError:
    stored = error.stored()
    return LineError("invalid_request", stored.message, f"body.{stored.param}" if stored.param else "body")


def _envelope_error(raw: bytes, error: ValidationError) -> LineError:
    """Return what is wrong with a line that is no `BatchLine`."""
    try:
        members = json.decode(raw)
    except UNREADABLE:
        members = None
    if not isinstance(members, Mapping):
        return LineError("invalid_json_line", "The line is not a JSON object.")
    missing = [name for name in _REQUIRED if name not in members]
    if missing:
        return LineError("missing_required_parameter", f"`{missing[0]}` is missing.", missing[0])
    try:
        msgspec.convert(members["custom_id"], CustomId)
    except ValidationError:
        return LineError("invalid_custom_id", "`custom_id` must be a text of 1 to 512 characters.", "custom_id")
    return LineError("invalid_request", str(error), None)
