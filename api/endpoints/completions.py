"""POST /v1/completions, which OpenAI calls legacy: a text is continued."""

from collections.abc import Sequence

from api.call import Call, Draft
from api.http import EventStream, Reply, Routes
from api.limits import Estimate
from api.respond import ERRORS, respond_or_stream
from api.submission import Submission, find_router
from api.token_ids import check_token_ids
from shared.completions.schemas import Completion, CompletionChunk, CompletionRequest
from shared.jobs.schemas import COMPLETION, Job
from shared.models.schemas import CHAT_TYPES
from shared.text_input import Input, estimate_inputs

routes = Routes("Completions")
PATH = "/v1/completions"


async def prepare_completion(draft: Draft, body: CompletionRequest) -> Submission:
    """Return what this request asks for."""
    prompts = body.check()
    router = await find_router(draft, body.model, CHAT_TYPES)
    await check_token_ids(draft, router, "prompt", prompts)
    return Submission(
        kind=COMPLETION,
        endpoint=PATH,
        router=router,
        model=body.model,
        stream=bool(body.stream),
        store=body.store,
        metadata=body.metadata,
        end_user=body.user,
        estimate=_estimate(body, prompts),
    )


@routes.post(PATH, raises=ERRORS, accepted=Job, prepare=prepare_completion)
async def create_completion(call: Call, body: CompletionRequest) -> Reply[Completion] | EventStream[CompletionChunk]:
    """Continue a text, or several.

    With `stream: true` the answer is a stream of chunks that ends with `data: [DONE]`; the id of each event is a cursor
    of `/v1/jobs/{job_id}/events`, where a broken stream can be resumed.  With `Prefer: respond-async` the answer is 202
    and a job.
    """
    return await respond_or_stream(call, await prepare_completion(call, body))


def _estimate(body: CompletionRequest, prompts: Sequence[Input]) -> Estimate:
    answers = len(prompts) * max(body.n or 1, body.best_of or 1)
    return Estimate(
        prompt_tokens=estimate_inputs(prompts),
        output_tokens=(body.max_tokens or 0) * answers,
        answers=answers,
        prompts=len(prompts),
    )
