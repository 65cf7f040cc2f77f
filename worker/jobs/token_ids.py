"""Token ids for providers that take them, and their text for those that do not."""

from collections.abc import Sequence

from msgspec import Raw, json

from shared.text_input import Input
from shared.vocabularies import TokenIdError, VocabularyError, encoding_of, to_texts
from worker.context import JobContext
from worker.jobs.upstream import MEMBERS
from worker.providers.base import ProviderError


async def with_texts(ctx: JobContext, name: str, inputs: Sequence[Input]) -> bytes:
    """Return the request for the attempt's provider: ids in member `name` are texts if it does not take them.

    Raises `ProviderError` if the ids cannot be read, which is a matter of the installation: they have been checked.
    """
    if all(isinstance(one, str) for one in inputs) or _takes_ids(ctx):
        return ctx.request
    encoding = encoding_of(ctx.router)
    if encoding is None:
        raise _unreadable("the vocabulary of the router is not known")
    try:
        texts = await to_texts(encoding, ctx.runtime.settings.vocabulary_path, inputs)
    except (TokenIdError, VocabularyError) as error:
        raise _unreadable(str(error)) from error
    return json.encode(MEMBERS.decode(ctx.request) | {name: Raw(json.encode(texts))})


def _takes_ids(ctx: JobContext) -> bool:
    """Return whether the provider takes ids, and they mean the same there as they do at the router that was called."""
    home = ctx.runtime.directory.peek_by_id(ctx.provider.router_id) or ctx.router
    has_same = home.id == ctx.router.id or home.token_encoding == ctx.router.token_encoding
    return home.accepts_token_ids and has_same and ctx.runtime.adapters[ctx.provider.type].takes_token_ids


def _unreadable(message: str) -> ProviderError:
    return ProviderError(f"Token ids cannot be read: {message}", blame="operator", reason="token_ids")
