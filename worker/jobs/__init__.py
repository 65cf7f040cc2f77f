"""Job kinds.  A new kind is a wire type in `shared`, a module here and one line in `KINDS`."""

from collections.abc import Awaitable, Callable

from shared.directory import Provider, Router
from shared.jobs.schemas import (
    AUDIO_SPEECH,
    AUDIO_TRANSCRIPTION,
    CHAT_ATTRIBUTES,
    CHAT_COMPLETION,
    COMPLETION,
    EMBEDDING,
    INFERENCE,
    INGESTION,
    OCR,
    RERANK,
    RESPONSE,
)
from worker.context import JobContext, Produced, Runtime
from worker.jobs.attributes import run_attributes
from worker.jobs.chat import run_chat, to_chat_body
from worker.jobs.completion import run_completion, to_completion_body
from worker.jobs.embedding import run_embedding, to_embedding_body
from worker.jobs.inference import run_inference
from worker.jobs.ingestion import run_ingestion
from worker.jobs.ocr import run_ocr
from worker.jobs.rerank import run_rerank, to_rerank_body
from worker.jobs.response import run_response
from worker.jobs.speech import run_speech
from worker.jobs.transcription import run_transcription

KINDS: dict[str, Callable[[JobContext], Awaitable[Produced]]] = {
    CHAT_COMPLETION: run_chat,
    CHAT_ATTRIBUTES: run_attributes,
    INFERENCE: run_inference,
    COMPLETION: run_completion,
    EMBEDDING: run_embedding,
    RERANK: run_rerank,
    RESPONSE: run_response,
    AUDIO_TRANSCRIPTION: run_transcription,
    AUDIO_SPEECH: run_speech,
    OCR: run_ocr,
    INGESTION: run_ingestion,
}
"""Kind → function that runs one attempt of it."""
BODIES: dict[str, Callable[[Runtime, Router, Provider, bytes], Awaitable[bytes]]] = {
    CHAT_COMPLETION: to_chat_body,
    COMPLETION: to_completion_body,
    EMBEDDING: to_embedding_body,
    RERANK: to_rerank_body,
}
"""Kind whose answers may be kept → function that returns what the provider is sent, if one call is enough."""
