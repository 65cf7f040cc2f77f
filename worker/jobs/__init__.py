"""Job kinds.  A new kind is a wire type in `shared`, a module here and one line in `KINDS`."""

from collections.abc import Awaitable, Callable

from shared.jobs.schemas import (
    AUDIO_SPEECH,
    AUDIO_TRANSCRIPTION,
    CHAT_ATTRIBUTES,
    CHAT_COMPLETION,
    COMPLETION,
    EMBEDDING,
    INFERENCE,
    OCR,
    RERANK,
)
from worker.context import JobContext, Produced
from worker.jobs.attributes import run_attributes
from worker.jobs.chat import run_chat
from worker.jobs.completion import run_completion
from worker.jobs.embedding import run_embedding
from worker.jobs.inference import run_inference
from worker.jobs.ocr import run_ocr
from worker.jobs.rerank import run_rerank
from worker.jobs.speech import run_speech
from worker.jobs.transcription import run_transcription

KINDS: dict[str, Callable[[JobContext], Awaitable[Produced]]] = {
    CHAT_COMPLETION: run_chat,
    CHAT_ATTRIBUTES: run_attributes,
    INFERENCE: run_inference,
    COMPLETION: run_completion,
    EMBEDDING: run_embedding,
    RERANK: run_rerank,
    AUDIO_TRANSCRIPTION: run_transcription,
    AUDIO_SPEECH: run_speech,
    OCR: run_ocr,
}
"""Kind → function that runs one attempt of it."""
