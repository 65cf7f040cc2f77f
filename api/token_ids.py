"""Refuse token ids that mean nothing before there is a job."""

from collections.abc import Sequence

from api.call import Draft
from shared.directory import Router
from shared.errors import InvalidFieldError
from shared.text_input import Input
from shared.vocabularies import TokenIdError, VocabularyError, encoding_of, to_texts


async def check_token_ids(draft: Draft, router: Router, name: str, inputs: Sequence[Input]) -> None:
    """Raise `InvalidFieldError` if ids in member `name` are not in the router's vocabulary, or are no text.

    Ids of a vocabulary that is not known here are left to the provider.
    """
    encoding = encoding_of(router)
    if encoding is None or all(isinstance(one, str) for one in inputs):
        return
    try:
        await to_texts(encoding, draft.state.settings.vocabulary_path, inputs)
    except TokenIdError as error:
        place: list[str | int] = ["body", name, error.index] if len(inputs) > 1 else ["body", name]
        raise InvalidFieldError(place, str(error)) from error
    except VocabularyError as error:
        raise InvalidFieldError(["body", name], f"Token ids cannot be read: {error}") from error
