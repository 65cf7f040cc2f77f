"""What happens to a document in the transaction that ends its job, for the group-commit writer."""

from shared.group_commit.units import Statement


def complete_document(document_id: int, job_id: str, tokens: int) -> Statement:
    """Make a document visible, with all its chunks; refused if it was deleted meanwhile."""
    sql = """
        UPDATE documents SET status = 'completed', tokens = $1 WHERE id = $2 AND job_id = $3 AND status = 'processing'
    """
    return Statement(sql, (tokens, document_id, job_id), expects=1)


def move_chunks(document_id: int, target_id: int, count: int) -> tuple[Statement, ...]:
    """Move new chunks into the document they were made for; refused if that was deleted meanwhile."""
    counts = """
        UPDATE documents SET chunks = chunks + $1,
            terms = terms + (SELECT added.terms FROM documents added WHERE added.id = $2)
        WHERE id = $3 AND status = 'completed'
    """
    return (
        Statement(counts, (count, document_id, target_id), expects=1),
        Statement("UPDATE chunks SET document_id = $1 WHERE document_id = $2", (target_id, document_id), expects=count),
        Statement("DELETE FROM documents WHERE id = $1", (document_id,), expects=1),
    )


def release_job(job_id: str, request: bytes) -> Statement:
    """Let a held ingestion run with this request; returns (id), nothing if it was let go or is over already."""
    sql = """
        UPDATE jobs SET held = false, request = $2, version = version + 1
        WHERE id = $1 AND held AND finished_ms IS NULL RETURNING id
    """
    return Statement(sql, (job_id, request))


def fail_document(job_id: str, error: str) -> Statement:
    """Note that the document of a job stays without content; nothing if the job has none of its own."""
    sql = "UPDATE documents SET status = 'failed', error = $1 WHERE job_id = $2 AND status = 'processing'"
    return Statement(sql, (error, job_id))
