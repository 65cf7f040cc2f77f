"""The usage that providers of media report, in whichever of the usual forms."""

from typing import Final

from msgspec import UNSET, Raw, Struct, json

from shared.unreadable import UNREADABLE
from worker.context import TokenCount
from worker.jobs.upstream import NULL, bounded


class _Usage(Struct):
    """Chat says prompt and completion, newer routes say input and output; minutes or pages may be all there is."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: Raw = NULL
    input_token_details: Raw = NULL


_USAGE: Final = json.Decoder(_Usage | None)


def reported_tokens(usage: Raw) -> TokenCount | None:
    """Return the provider's numbers; None if it reports no tokens."""
    try:
        found = _USAGE.decode(usage)
    except UNREADABLE:
        return None
    if found is None:
        return None
    prompt = bounded(found.prompt_tokens or found.input_tokens or 0)
    completion = bounded(found.completion_tokens or found.output_tokens or 0)
    if not prompt + completion:
        return None
    details = found.input_token_details if found.prompt_tokens_details == NULL else found.prompt_tokens_details
    return TokenCount(prompt=prompt, completion=completion, prompt_details=UNSET if details == NULL else details.copy())
