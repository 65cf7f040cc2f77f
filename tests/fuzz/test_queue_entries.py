"""What comes back from Redis and from the database: messages, entries of replies, logs, kept answers, secrets."""

import zlib
from contextlib import suppress
from typing import Any, Final

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from shared.jobs.messages import JobMessage
from shared.queue.lanes import decode_message, function_of
from shared.replies.entries import (
    MAX_INLINE_BYTES,
    Delivery,
    Ending,
    Entry,
    Kind,
    decode_deliveries,
    decode_ending,
    decode_entries,
    encode_ending,
    id_of,
    is_next,
    position_of,
)
from shared.replies.frames import decode_frames, encode_frames
from shared.secrets import SecretBox
from shared.unreadable import UNREADABLE
from shared.webhooks.signature import Secret, is_secret, new_secret, seal, sign, unseal
from tests.fuzz.profile import FUZZED
from tests.fuzz.strategies import broken

NUMBERS: Final = st.integers(0, 2**63 - 1)
ENTRIES: Final = st.lists(
    st.builds(Entry, NUMBERS, NUMBERS, st.sampled_from(Kind), st.binary(max_size=3000)), max_size=4
)
DELIVERIES: Final = st.lists(st.builds(Delivery, st.text(), ENTRIES), max_size=3)
MESSAGE: Final = JobMessage(
    job_id="0" * 26, kind="chat.completion", endpoint="/v1/chat/completions", band=0, stream=False, user_id=1,
    organization_id=None, key_id=2, router_id=1, router_name="m", model="m", price_prompt="0.1", price_completion="0",
    created_ms=1, request_id="req_1", timeout_s=600, result_ttl_s=60, traceparent=None, on_worker_lost="retry",
    inbox=None, admission=None, request=b"{}",
)  # fmt: skip
PAYLOAD: Final = msgpack.encode({"t": None, "f": "run_job", "a": (MESSAGE,), "k": {}, "et": 1})


@FUZZED
@given(ENTRIES, DELIVERIES)
def test_entries_come_back_as_they_were(entries: list[Entry], deliveries: list[Delivery]) -> None:
    assert decode_entries(msgpack.encode(entries)) == entries
    assert decode_frames(encode_frames(entries)) == entries
    assert decode_deliveries(msgpack.encode(deliveries)) == deliveries


@FUZZED
@given(
    st.builds(Ending, st.text(), st.integers(100, 599), st.text(), st.none() | st.binary(), st.lists(st.text())),
    st.booleans(),
)
def test_endings_come_back_as_they_were(ending: Ending, with_body: bool) -> None:
    found = decode_ending(encode_ending(ending, with_body=with_body))

    assert (found.status, found.http_status, found.dropped) == (ending.status, ending.http_status, ending.dropped)
    assert found.body == (ending.body if with_body else None)
    large = Ending("completed", 200, "a", b"a" * (MAX_INLINE_BYTES + 1))
    assert decode_ending(encode_ending(large, with_body=True)).body is None


@FUZZED
@given(
    st.binary(max_size=64)
    | broken(st.just(PAYLOAD))
    | broken(DELIVERIES.map(msgpack.encode))
    | broken(ENTRIES.map(msgpack.encode)),
    st.sampled_from([decode_entries, decode_deliveries, decode_ending, decode_message, function_of]),
)
def test_other_bytes_are_refused(data: bytes, decode: Any) -> None:
    with suppress(*UNREADABLE):
        decode(data)


@FUZZED
@given(st.binary(max_size=64) | broken(ENTRIES.map(encode_frames)))
def test_a_damaged_log_is_refused(data: bytes) -> None:
    try:
        found = decode_frames(data)
    except (*UNREADABLE, zlib.error):
        return
    assert all(isinstance(entry, Entry) for entry in found)


@FUZZED
@given(
    st.text(max_size=30)
    | st.from_regex(r"[0-9]{1,22}-[0-9]{1,22}", fullmatch=True)
    | st.builds("{}-{}".format, NUMBERS, NUMBERS)
)
def test_ids_of_entries_are_cursors(text: str) -> None:
    try:
        position = position_of(text)
    except ValueError:
        return
    assert position_of(id_of(position)) == position
    assert is_next(position, (position[0], position[1] + 1))
    assert not is_next(position, position)


@FUZZED
@given(st.text(max_size=50), st.text(max_size=20), st.text(max_size=20), st.data())
def test_sealed_secrets(text: str, secret: str, other: str, data: st.DataObject) -> None:
    box = SecretBox(secret)
    sealed = box.seal(text)

    assert SecretBox(other, [secret]).open(sealed) == box.open(sealed) == text
    changed = data.draw(broken(st.just(sealed)) | st.binary(max_size=40))
    if changed != sealed:
        with pytest.raises(InvalidTag):
            box.open(changed)


@FUZZED
@given(
    st.text(max_size=80)
    | st.binary(max_size=80).map(lambda key: "whsec_" + key.hex())
    | broken(st.just(new_secret().encode())).map(lambda key: key.decode(errors="replace"))
)
def test_signing_secrets(text: str) -> None:
    if not is_secret(text):
        return
    box = SecretBox("installation")
    found = unseal(box, seal(box, [Secret(text)]))

    assert found == [Secret(text)]
    assert sign(found, "evt_1", 1, b"{}")["webhook-signature"].startswith("v1,")
