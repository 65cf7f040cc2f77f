"""Lines of output and error files."""

from typing import Final

from msgspec import Raw, json

from shared.batches.schemas import ITEM_PREFIX, ItemError, LineResponse, ResultLine
from shared.errors import ErrorDetail, StoredError
from shared.jobs.schemas import CANCELLED, EXPIRED, WITH_RESULT
from shared.jobs.tables import JobRow

_WITHOUT_RESPONSE: Final = frozenset({"interrupted", "timeout"})
"""Failures that have no answer of a provider behind them."""
_EXPIRED: Final = ItemError(
    code="batch_expired", message="This request could not be executed before the completion window expired."
)
_REMOVED: Final = ItemError(code="job_gone", message="The result of this request was removed.")
_CANCELLED: Final = ItemError(code="batch_cancelled", message="This request was cancelled.")


def result_line(row: JobRow, body: bytes | None, *, batch_expired: bool) -> ResultLine:
    """Return the line of an item that has ended; `batch_expired` says why a running one was cancelled."""
    line = ResultLine(id=ITEM_PREFIX + row.id, custom_id=row.custom_id or "", response=None, error=None)
    if row.status in WITH_RESULT and body is None:
        line.error = _REMOVED
    elif row.status in WITH_RESULT:
        line.response = LineResponse(status_code=200, request_id=row.request_id, body=Raw(body or b"null"))
    elif row.status == EXPIRED or (row.status == CANCELLED and batch_expired):
        line.error = _EXPIRED
    elif row.status == CANCELLED:
        line.error = _CANCELLED
    else:
        error = json.decode(row.error or b"", type=StoredError)
        if error.code in _WITHOUT_RESPONSE:
            line.error = ItemError(code=error.code, message=error.message)
        else:
            detail = ErrorDetail(message=error.message, type=error.type, param=error.param, code=error.code)
            text = json.encode({"error": detail})
            line.response = LineResponse(status_code=error.status, request_id=row.request_id, body=Raw(text))
    return line
