"""POST /v1/rerank."""

from api.call import Call, Draft
from api.http import Reply, Routes
from api.limits import Estimate
from api.respond import ERRORS, respond
from api.submission import Submission, find_router
from shared.jobs.schemas import RERANK, Job
from shared.models.schemas import RERANK_TYPES
from shared.rerank.schemas import RerankRequest, Reranks
from shared.text_input import estimate_inputs

routes = Routes("Rerank")
PATH = "/v1/rerank"


async def prepare_rerank(draft: Draft, body: RerankRequest) -> Submission:
    """Return what this request asks for."""
    body.trim()
    router = await find_router(draft, body.model, RERANK_TYPES)
    return Submission(
        kind=RERANK, endpoint=PATH, router=router, model=body.model, store=body.store, metadata=body.metadata,
        end_user=body.user, estimate=_estimate(body),
    )  # fmt: skip


@routes.post(PATH, raises=ERRORS, accepted=Job, prepare=prepare_rerank)
async def create_rerank(call: Call, body: RerankRequest) -> Reply[Reranks]:
    """Sort documents by how well they answer a query.

    With `Prefer: respond-async` the answer is 202 and a job.
    """
    return await respond(call, await prepare_rerank(call, body))


def _estimate(body: RerankRequest) -> Estimate:
    return Estimate(
        prompt_tokens=estimate_inputs([body.query, *body.documents]),
        output_tokens=0,
        answers=0,
        prompts=len(body.documents),
        repeated_bytes=len(body.query.encode()) * (len(body.documents) - 1),  # a model reads it with each document
    )
