"""Vocabularies: the text that token ids stand for.

A vocabulary is a file as tiktoken has it: a line for each token, its bytes in base64 and its id.  Those of OpenAI are
data of the package `bpe-openai`, whose code is not used; they are taken only if they are what OpenAI published.  Others
are `<name>.tiktoken` in a folder of the operator's, and so are these where there is no such package.
Source: tiktoken 0.14, `tiktoken_ext/openai_public.py`, for names and digests.
"""

import asyncio
import gzip
import hashlib
import re
from base64 import b64decode
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from msgspec import Struct

from shared.directory import Router
from shared.text_input import Input

USUAL: Final = "cl100k_base"
"""What stock clients that send ids use."""
_DIGESTS: Final = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""SHA-256 of the files."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEPT: Final = 8
_ID_DIGITS: Final = 8
"""No vocabulary has ten million tokens."""
_LONGEST: Final = 32
"""Bytes of the longest token that texts are cut with."""


class VocabularyError(Exception):
    """There is no such vocabulary, or its file cannot be read."""


class TokenIdError(Exception):
    """Ids that mean nothing."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index
        """Of the input."""


class Vocabulary(Struct, frozen=True):
    """Tokens by id; None where there is none, as for control tokens, which are no text."""

    name: str
    tokens: tuple[bytes | None, ...]

    def to_text(self, ids: Sequence[int]) -> str:
        """Return the text; raises `ValueError` if an id is not known, or all together are no text."""
        pieces = [self.tokens[one] if one < len(self.tokens) else None for one in ids]
        found = [piece for piece in pieces if piece is not None]
        if len(found) < len(pieces):
            raise ValueError(f"Token id {ids[pieces.index(None)]} is not in the vocabulary {self.name}")
        try:
            return b"".join(found).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"The token ids are no text in the vocabulary {self.name}") from error

    def cut(self, text: str, most: int, pieces: frozenset[bytes]) -> str:
        """Return the beginning of a text, of about so many tokens: always the longest of `pieces` that comes next."""
        data, end = text.encode(), 0
        for _ in range(most):
            if end >= len(data):
                return text
            longest = min(_LONGEST, len(data) - end)
            end += next((size for size in range(longest, 1, -1) if data[end : end + size] in pieces), 1)
        return data[:end].decode(errors="ignore")


def encoding_of(router: Router) -> str | None:
    """Return the vocabulary of the ids that callers of this router send; None if it is not known."""
    return router.token_encoding or (None if router.accepts_token_ids else USUAL)


async def check_vocabulary(name: str, folder: Path) -> None:
    """Raise `VocabularyError` if there is no such vocabulary."""
    await asyncio.to_thread(_read, name, folder)


async def to_texts(name: str, folder: Path, inputs: Sequence[Input]) -> list[str]:
    """Return the inputs as texts; raises `TokenIdError`, or `VocabularyError`."""
    return await asyncio.to_thread(_to_texts, name, folder, inputs)


def _to_texts(name: str, folder: Path, inputs: Sequence[Input]) -> list[str]:
    vocabulary, texts = _read(name, folder), []
    for index, one in enumerate(inputs):
        try:
            texts.append(one if isinstance(one, str) else vocabulary.to_text(one))
        except ValueError as error:
            raise TokenIdError(index, str(error)) from error
    return texts


async def cut_inputs(name: str, folder: Path, inputs: Sequence[Input], most: int) -> list[Input]:
    """Return the inputs cut at their ends, each to so many tokens; raises `VocabularyError`."""
    return await asyncio.to_thread(_cut_inputs, name, folder, inputs, most)


def _cut_inputs(name: str, folder: Path, inputs: Sequence[Input], most: int) -> list[Input]:
    if all(len(one) <= most for one in inputs):  # a token is a character at least
        return list(inputs)
    vocabulary, pieces = _read(name, folder), _pieces(name, folder)
    return [vocabulary.cut(one, most, pieces) if isinstance(one, str) else one[:most] for one in inputs]


@lru_cache(maxsize=_KEPT)
def _pieces(name: str, folder: Path) -> frozenset[bytes]:
    return frozenset(token for token in _read(name, folder).tokens if token is not None)


@lru_cache(maxsize=_KEPT)
def _read(name: str, folder: Path) -> Vocabulary:
    """Return a vocabulary, which takes a tenth of a second the first time."""
    if not _NAME.fullmatch(name):
        raise VocabularyError(f"`{name}` is not the name of a vocabulary")
    try:
        text = _published(name) if name in _DIGESTS else None
        text = text or (folder / f"{name}.tiktoken").read_bytes()
        pairs = [line.split() for line in text.splitlines() if line]
        tokens = {_to_id(number): b64decode(token, validate=True) for token, number in pairs}
    except FileNotFoundError as error:
        raise VocabularyError(f"There is no vocabulary `{name}`") from error
    except (OSError, ValueError) as error:
        raise VocabularyError(f"The vocabulary `{name}` cannot be read: {error}") from error
    return Vocabulary(name, tuple(map(tokens.get, range(max(tokens, default=-1) + 1))))


def _to_id(number: bytes) -> int:
    """Return the id of a token; raises `ValueError` for one that no vocabulary has, since all ids take memory."""
    if not (number.isdigit() and len(number) < _ID_DIGITS):
        raise ValueError(f"{number[:20]!r} is not the id of a token")
    return int(number)


def _published(name: str) -> bytes | None:
    """Return a vocabulary of OpenAI; the package is found, but not imported, since its code is large and not needed."""
    spec = find_spec("bpe_openai")
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0], "data", f"{name}.tiktoken.gz")
    text = gzip.decompress(file.read_bytes())
    if hashlib.sha256(text).hexdigest() != _DIGESTS[name]:
        raise ValueError("it is not what OpenAI published")
    return text
