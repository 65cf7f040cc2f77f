"""GET /v1/request_logs: what was asked, who answered, how long it took and what it cost; as a list or as a file."""

from typing import Any

from msgspec import UNSET, Raw, json

from api.call import Call
from api.http import JSON, ByteStream, Routes
from api.log_export import ENDINGS, FORMATS, export
from api.log_reads import reading_logs
from api.named import find_named
from api.negotiation import preferred
from shared.errors import InvalidCursorError, InvalidFieldError, NotFoundError
from shared.ids import parse_id
from shared.lists import check_ranges, cursor_page
from shared.request_logs.errors import LogsUnavailableError
from shared.request_logs.listing import (
    LOG_PREFIX,
    RANGES,
    GetRequestLogQuery,
    ListRequestLogsQuery,
    RequestLog,
    RequestLogPage,
)
from shared.request_logs.listing_queries import (
    Wanted,
    add_names,
    find_request_log,
    get_content_policy,
    list_request_logs,
)
from shared.request_logs.redaction import FULL, NOTHING, redact_body, redact_metadata, strictest
from shared.unreadable import UNREADABLE

routes = Routes("Requests")


@routes.get("/v1/request_logs", raises=(InvalidCursorError, LogsUnavailableError), other_media_types=tuple(FORMATS))
async def list_logs(call: Call, query: ListRequestLogsQuery) -> RequestLogPage | ByteStream:
    """List attempts and refused requests, running ones too, newest first: one's own, or for administrators all.

    `Accept: application/x-ndjson`, `text/csv` or `application/vnd.apache.parquet` gives all that match, without pages.
    """
    check_ranges(query, *RANGES)
    names = call.state.settings.secret_members
    if hidden := names.intersection(query.metadata):
        raise InvalidFieldError(["query", f"metadata[{min(hidden)}]"], "The log does not show this key")
    after = None
    if query.after is not None and (after := parse_id(query.after, LOG_PREFIX)) is None:
        raise InvalidCursorError(f"`{query.after[:100]}` is not the id of a row.", param="after")
    user_id = None if call.caller.is_admin else call.caller.user_id
    named = await find_named(call, query, "everybody" if user_id is None else "caller")
    wanted = Wanted(user_id=user_id, query=query, named=named)
    form = preferred(call.request.headers.get("Accept", ""), (JSON, *FORMATS))
    if form != JSON:
        if "limit" in call.request.query:
            raise InvalidFieldError(["query", "limit"], "A file has all rows that match")
        call.headers["Content-Disposition"] = f"attachment; filename=request_logs.{ENDINGS[form]}"
        return ByteStream(pieces=export(call, wanted, after, FORMATS[form]), content_type=form)
    async with reading_logs(call) as session:
        rows = await list_request_logs(session, wanted, after, query.limit + 1, names)
        data = rows[: query.limit]
        await add_names(session, data)
    return cursor_page(data, has_more=len(rows) > query.limit)


@routes.get("/v1/request_logs/{log_id}", raises=(NotFoundError, LogsUnavailableError))
async def get_log(call: Call, log_id: str, query: GetRequestLogQuery) -> RequestLog:
    """Get one row; with `include=request,response` the bodies, too, as long as they are kept and may be shown."""
    user_id = None if call.caller.is_admin else call.caller.user_id
    ulid = parse_id(log_id, LOG_PREFIX)
    async with reading_logs(call) as session:
        found = None if ulid is None else await find_request_log(session, user_id, ulid)
        if found is not None:
            await add_names(session, [found.log])
    if found is None:
        raise NotFoundError(f"No row `{log_id[:100]}` of the request log.", param="log_id")
    log, policy = found.log, NOTHING
    if found.is_stored:
        async with call.state.database.read() as session:  # not a replica: a policy that is stricter by now counts
            policy = strictest(found.policy, await get_content_policy(session, log.organization_id))
    wanted = {name for one in query.include for name in one.split(",")}
    names = call.state.settings.secret_members
    log.metadata = None if log.metadata is None else redact_metadata(log.metadata, names)
    log.request_headers = None if policy == NOTHING or not found.headers else json.decode(found.headers)
    log.request = _shown(found.request, policy, names) if "request" in wanted else UNSET
    log.response = _shown(found.response, policy, names) if "response" in wanted else UNSET
    return log


def _shown(body: bytes | None, policy: str, names: frozenset[str]) -> Any:
    """Return a body as JSON, or as text if it is none; null if it may not be shown or is not kept any more."""
    if body is None or policy != FULL:
        return None
    body = redact_body(body, names)
    try:
        json.decode(body)
    except UNREADABLE:
        return body.decode(errors="replace")
    return Raw(body)
