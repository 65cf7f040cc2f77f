"""What is not quite right: valid documents with a few faults, as values, JSON or bytes."""

import copy
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from hypothesis import strategies as st

Place = tuple[Any, Any]
"""A container and the key of one of its members."""
_NUMBERS: Final = st.sampled_from(
    [0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**30, -(10**30), 0.5, -0.0, 1e15, 1.7e308, -1e300]
)
_TEXTS: Final = st.text(max_size=8) | st.sampled_from(
    ["", "0", "1.5", "-1", "nan", "inf", "1e999", "null", "\x00", "\ud7ff", "é" * 300, "{}", "[DONE]", "data:", "stop"]
)
SCALARS: Final = st.none() | st.booleans() | _NUMBERS | st.integers(-3, 300) | _TEXTS
VALUES: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3), max_leaves=6
)
"""Anything JSON has."""


def places(document: Any) -> Iterator[Place]:
    """Yield every member of every list and object."""
    if isinstance(document, dict | list):
        for key in list(document) if isinstance(document, dict) else range(len(document)):
            yield document, key
            yield from places(document[key])


@st.composite
def faulty(draw: st.DrawFn, *documents: Any, most: int = 3) -> Any:
    """Return one of the documents with up to `most` faults."""
    whole = [copy.deepcopy(draw(st.sampled_from(documents)))]
    for _ in range(draw(st.integers(0, most))):
        _spoil(draw, whole)
        if not whole:
            return None
    return whole[0]


def _spoil(draw: st.DrawFn, whole: list[Any]) -> None:
    container, key = draw(st.sampled_from(list(places(whole))))
    match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "repeat", "wrap"])):
        case "replace":
            container[key] = draw(VALUES)
        case "remove":
            del container[key]
        case "add" if isinstance(container, dict):
            container[draw(_TEXTS)] = draw(VALUES)
        case "repeat" if isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        case _:
            container[key] = draw(st.sampled_from([[container[key]], {"a": container[key]}, [container[key]] * 2]))


_ODD_PIECES: Final = (
    b"\xff", b"\x00", b"\xed\xa0\x80", b"\xf0\x9f", b'"', b"\\u", b"\\ud800", b"{", b"[", b"[" * 300, b"]", b"}", b",",
    b":", b"\n", b"\r\n", b"\n\n", b"-", b"1e999", b"9" * 400, b"data:",
    b"data: [DONE]\n\n", b"\xef\xbb\xbf", b"=", b"%", b"null",
)  # fmt: skip


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes], most: int = 3) -> bytes:
    """Return the bytes with up to `most` pieces cut out, put in, or overwritten."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, most))):
        start = draw(st.integers(0, len(data)))
        end = min(start + draw(st.sampled_from([0, 0, 1, 2, 8, 10_000])), len(data))
        data = data[:start] + draw(st.sampled_from([b"", *_ODD_PIECES]) | st.binary(max_size=4)) + data[end:]
    return data


def encode(value: Any) -> bytes:
    """Return a value as JSON, whose numbers and texts may be such as no decoder is glad of."""
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def faulty_json(*documents: Any) -> st.SearchStrategy[bytes]:
    """Return JSON of documents with faults, sometimes broken, sometimes nothing of the kind."""
    near = faulty(*documents).map(encode)
    return near | near | near | broken(near) | broken(st.sampled_from(documents).map(encode)) | st.binary(max_size=64)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return the data cut at these places, wherever they are."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]
