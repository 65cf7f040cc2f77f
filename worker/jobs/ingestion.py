"""Job kind `ingestion`: put a file, a text or chunks into a document, so that searches find them.

An ingestion is a call of the embedding model with what the file holds: it is admitted, routed, metered and charged like
one.  Chunks are stored while it runs and seen when it is over, in the transaction that ends the job.  An attempt that
fails leaves nothing; what is left of a worker that died is removed by the next attempt, or by the sweep.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import json

from shared.clock import now_ms, to_iso
from shared.documents.descriptions import describe_chunk, describe_text
from shared.documents.removal import remove_chunks
from shared.documents.schemas import Document, IngestionRequest
from shared.documents.statements import complete_document, move_chunks
from shared.documents.tables import DocumentRow, ItemRow
from shared.group_commit.units import Statement
from shared.ids import new_ulid
from shared.parsing.protocol import ParsedChunk
from shared.retrieval.index import NewEntry
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced
from worker.jobs.batches import count_batches
from worker.retrieval.embedding import Embedded, embed
from worker.retrieval.reading import metadata_of, read_chunks
from worker.retrieval.storing import BATCH, open_document, reserve_numbers, store_entries

_REQUEST: Final = json.Decoder(IngestionRequest)


async def run_ingestion(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    request = _REQUEST.decode(ctx.request)
    document = await open_document(ctx, request.document_id)
    done: list[Embedded] = []
    try:
        chunks = await read_chunks(ctx, request)
        first = await reserve_numbers(ctx, request.target_id or request.document_id, len(chunks))
        for start in range(0, len(chunks), BATCH):
            await _embed_and_store(ctx, document, request, chunks, start, first, done)
    except BaseException:
        await remove_chunks(ctx.runtime.database, request.document_id, ctx.attempt)
        raise
    tokens = count_batches(done)
    end: tuple[Statement, ...] = (complete_document(request.document_id, ctx.message.job_id, tokens.prompt),)
    if request.target_id is not None:
        end += move_chunks(request.document_id, request.target_id, len(chunks))
    return Produced(
        tokens=tokens,
        render=lambda usage: _render(document, request, range(first, first + len(chunks)), usage),
        provider_request_id=done[-1].request_id,
        statements=end,
    )


async def _embed_and_store(  # noqa: PLR0913, PLR0917  # what is known of some chunks
    ctx: JobContext, document: DocumentRow, request: IngestionRequest, chunks: Sequence[ParsedChunk], start: int,
    first: int, done: list[Embedded],
) -> None:  # fmt: skip
    """Take some chunks from index `start` on; the number of the first of all is `first`."""
    part = chunks[start : start + BATCH]
    calls = len(done)
    vectors = await embed(ctx, [chunk.text for chunk in part], done)
    entries, items = list[NewEntry](), list[ItemRow]()
    ids = sorted(new_ulid() for _ in part)  # in the order of the text, also within a millisecond
    for index, (chunk, vector) in enumerate(zip(part, vectors, strict=True), start=start):
        metadata, texts = metadata_of(request, index)
        item_id = document.job_id if request.form == "item" else None
        if request.form == "item" and index == 0:
            description = describe_text(document.name, request.text or "")
            items.append(_item(document, document.job_id or "", description, chunk.bag.length))
        if request.form == "file":
            item_id = ids[index - start]
            description = describe_chunk(document.name, index, len(chunks))
            items.append(_item(document, item_id, description, chunk.bag.length))
        entries.append(
            NewEntry(
                number=first + index, content=chunk.text, bag=chunk.bag, vector=vector, page=chunk.page,
                item_id=item_id, metadata=metadata, metadata_texts=texts,
            )
        )  # fmt: skip
    tokens = sum(one.prompt_tokens for one in done[calls:])
    _share_tokens(items, tokens)
    await store_entries(ctx, document, entries, items, tokens)


def _item(document: DocumentRow, item_id: str, description: str, weight: int) -> ItemRow:
    return ItemRow(
        id=item_id, collection_id=document.collection_id, document_id=document.id or 0, description=description,
        tokens=weight, chunks=1,
        created_ms=document.created_ms if document.kind == "item" else now_ms(),
    )  # fmt: skip


def _share_tokens(items: Sequence[ItemRow], tokens: int) -> None:
    """Give each item its part of the tokens of a call, by its length; the sum stays."""
    weights = [max(item.tokens, 1) for item in items]
    left, weight_left = tokens, sum(weights)
    for item, weight in zip(items, weights, strict=True):
        item.tokens = left * weight // weight_left
        left, weight_left = left - item.tokens, weight_left - weight


def _render(document: DocumentRow, request: IngestionRequest, numbers: range, usage: Usage) -> bytes:
    """Return the answer of the route that made the job."""
    if request.form == "chunks":
        return json.encode({"document_id": request.target_id, "ids": list(numbers)})
    if request.form == "item":
        item: dict[str, Any] = {
            "id": f"item_{document.job_id}", "created": to_iso(document.created_ms),
            "description": describe_text(document.name, request.text or ""), "content": request.text, "file_id": None,
            "chunks": len(numbers), "tokens": usage.prompt_tokens,
        }  # fmt: skip
        return json.encode({"item": item, "usage": usage})
    return json.encode(
        Document(
            id=document.id or 0,
            name=document.name,
            collection_id=document.collection_id,
            created=document.created_ms // 1000,
            chunks=len(numbers),
        )
    )
