"""POST /v1/jobs: any inference request as a job that nobody waits for."""

from typing import Final

import msgspec
from msgspec import json

from api.call import Call
from api.http import REQUESTS, Reply, Routes
from api.respond import ANY_ROUTE, respond
from api.webhooks import read_notice
from shared.clock import now_ms
from shared.dialects import split_mount
from shared.errors import InvalidFieldError, NotFoundError, PermissionDeniedError, to_unprocessable
from shared.jobs.schemas import CreateJobRequest, Job
from shared.webhooks.events import UnknownEventTypeError
from shared.webhooks.urls import WebhookUrlNotAllowedError

routes = Routes("Jobs")
_MOST_AHEAD_S: Final = 30 * 86_400
_WEBHOOK_ERRORS: Final = (WebhookUrlNotAllowedError, UnknownEventTypeError)


@routes.post("/v1/jobs", status=202, raises=(*ANY_ROUTE, NotFoundError, *_WEBHOOK_ERRORS), is_inference=True)
async def create_job(call: Call, body: CreateJobRequest) -> Reply[Job]:
    """Make a job of an inference request, which is checked as on its own route."""
    mount, path = split_mount(body.endpoint)
    endpoint = call.request.app[REQUESTS].get(path)
    if endpoint is None or endpoint.prepare is None or endpoint.body is None:
        raise InvalidFieldError(["body", "endpoint"], "Expected the path of an inference route that takes JSON")
    _check(call, body)
    call.dialect = endpoint.dialect or mount or call.dialect
    call.notice = await read_notice(call, body.webhook, body.webhook_endpoint_ids)
    call.body, call.options = bytes(body.body), body
    try:
        request = json.decode(call.body, type=endpoint.body, strict=False)
    except msgspec.ValidationError as error:
        raise to_unprocessable(error, ["body", "body"]) from error
    return await respond(call, await endpoint.prepare(call, request))


def _check(call: Call, body: CreateJobRequest) -> None:
    """Raise `InvalidFieldError` or `PermissionDeniedError` for what the caller may not ask for."""
    most_s, now_s = call.state.settings.max_execution_s, now_ms() // 1000
    if body.timeout is not None and body.timeout > most_s:
        raise InvalidFieldError(["body", "timeout"], f"Expected `int` <= {most_s}")
    if body.not_before is not None and body.not_before > now_s + _MOST_AHEAD_S:
        raise InvalidFieldError(["body", "not_before"], "Expected a time at most 30 days ahead")
    if body.priority is not None and body.priority > call.caller.priority:
        raise PermissionDeniedError("`priority` is above that of the user.", param="priority")
