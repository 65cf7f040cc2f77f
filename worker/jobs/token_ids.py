"""Token ids for providers that take them, and their text for those that do not."""

from collections.abc import Sequence

from msgspec import Raw, json

from shared.directory import Provider, Router
from shared.text_input import Input
from shared.vocabularies import USUAL, TokenIdError, VocabularyError, cut_inputs, encoding_of, to_texts
from worker.context import Runtime
from worker.jobs.upstream import MEMBERS
from worker.providers.base import ProviderError


async def with_texts(  # a request, and where it goes
    runtime: Runtime, router: Router, provider: Provider, request: bytes, name: str, inputs: Sequence[Input]
) -> bytes:
    """Return the request for this provider: ids in member `name` are texts if it does not take them.

    Raises `ProviderError` if the ids cannot be read, which is a matter of the installation: they have been checked.
    """
    if all(isinstance(one, str) for one in inputs) or _takes_ids(runtime, router, provider):
        return request
    encoding = encoding_of(router)
    if encoding is None:
        raise _unreadable("the vocabulary of the router is not known")
    try:
        texts = await to_texts(encoding, runtime.settings.vocabulary_path, inputs)
    except (TokenIdError, VocabularyError) as error:
        raise _unreadable(str(error)) from error
    return json.encode(MEMBERS.decode(request) | {name: Raw(json.encode(texts))})


async def cut(runtime: Runtime, router: Router, inputs: Sequence[Input], most: int) -> list[Input]:
    """Return inputs for a provider that does not cut them itself; of a text its tokens are about as many."""
    try:
        return await cut_inputs(encoding_of(router) or USUAL, runtime.settings.vocabulary_path, inputs, most)
    except VocabularyError as error:
        raise _unreadable(str(error)) from error


def _takes_ids(runtime: Runtime, router: Router, provider: Provider) -> bool:
    """Return whether the provider takes ids, and they mean the same there as they do at the router that was called."""
    home = runtime.directory.peek_by_id(provider.router_id) or router
    has_same = home.id == router.id or home.token_encoding == router.token_encoding
    return home.accepts_token_ids and has_same and runtime.adapters[provider.type].takes_token_ids


def _unreadable(message: str) -> ProviderError:
    return ProviderError(f"Token ids cannot be read: {message}", blame="operator", reason="token_ids")
