"""POST /v1/embeddings."""

from collections.abc import Sequence

from api.call import Call, Draft
from api.chats import model_of, priority_of, timeout_of
from api.http import Reply, Routes
from api.limits import Estimate
from api.respond import ERRORS, respond
from api.submission import Submission, find_router
from api.token_ids import check_token_ids
from shared.dialects import rules_of
from shared.directory import Router
from shared.embeddings.schemas import EmbeddingRequest, Embeddings
from shared.errors import ContextLengthError
from shared.jobs.schemas import EMBEDDING, Job
from shared.models.schemas import EMBEDDING_TYPES
from shared.text_input import Input, estimate_inputs

routes = Routes("Embeddings")
PATH = "/v1/embeddings"


async def prepare_embedding(draft: Draft, body: EmbeddingRequest) -> Submission:
    """Return what this request asks for."""
    settings = draft.state.settings
    inputs = body.check(is_exact=rules_of(draft.dialect, settings.vultr_defaults).is_exact)
    model = model_of(body.model, settings.default_embedding_model)
    router = await find_router(draft, model, EMBEDDING_TYPES)
    if body.truncate_prompt_tokens is None:
        _check_lengths(router, inputs)
    await check_token_ids(draft, router, "input", inputs)
    return Submission(
        kind=EMBEDDING,
        endpoint=PATH,
        router=router,
        model=model,
        store=body.store,
        metadata=body.metadata,
        end_user=body.user,
        estimate=Estimate(prompt_tokens=estimate_inputs(inputs), output_tokens=0, answers=0, prompts=len(inputs)),
        priority=priority_of(draft, body.priority),
        timeout_s=timeout_of(draft, body.timeout_sec),
        client_request_id=body.request_id,
    )


@routes.post(PATH, raises=(*ERRORS, ContextLengthError), accepted=Job, prepare=prepare_embedding)
async def create_embedding(call: Call, body: EmbeddingRequest) -> Reply[Embeddings]:
    """Turn texts, their tokens, or a conversation into vectors.

    Inputs are sent to the provider in as many calls as it needs; the answer is one, in the order of the inputs.  With
    `Prefer: respond-async` the answer is 202 and a job.
    """
    return await respond(call, await prepare_embedding(call, body))


def _check_lengths(router: Router, inputs: Sequence[Input]) -> None:
    """Raise `ContextLengthError` for tokens that do not fit; of a text only the provider knows how many it has."""
    most = router.max_context_length
    for index, one in enumerate(inputs):
        if most is not None and not isinstance(one, str) and len(one) > most:
            message = f"Input {index} has {len(one)} tokens; {router.name} takes at most {most}."
            raise ContextLengthError(["body", "input", index] if len(inputs) > 1 else ["body", "input"], message)
