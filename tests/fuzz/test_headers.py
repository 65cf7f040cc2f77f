"""Headers, ids and cursors: read as what they say, ignored, or refused, but never a reason to fail."""

import logging
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from opentelemetry.trace import get_current_span

from api.call import Call
from api.endpoints.files import RangeNotSatisfiableError, _span
from api.idempotency import fingerprint_of
from api.keys import _bearer
from api.prefer import MAX_WAIT_S, parse_prefer
from api.refusals import retry_count
from shared.errors import AuthenticationError, InvalidFieldError
from shared.ids import JOB_PREFIXES, new_ulid, oldest_ulid, parse_id, ulid_ms
from shared.parse.schemas import ParseForm
from shared.tracing.tracer import _W3C, _context
from shared.webhooks.schedule import next_delay_s, parse_retry_after
from tests.fuzz.profile import FUZZED, share_of
from tests.fuzz.strategies import broken, faulty_json
from tests.fuzz.test_answers import DATES

HEADERS: Final = st.text(st.characters(codec="latin-1"), max_size=40)


def near(*examples: str) -> st.SearchStrategy[str]:
    """Return headers that nearly are one of these, as aiohttp decodes them."""
    wrong = broken(st.sampled_from(examples).map(str.encode)).map(lambda data: data.decode(errors="surrogateescape"))
    return st.sampled_from(examples) | wrong | HEADERS


@FUZZED
@given(st.lists(near("respond-async", "wait=10", 'wait="5"; a=b', "handling=strict, wait = 999999999"), max_size=3))
def test_prefer(values: list[str]) -> None:
    found = parse_prefer(values)

    assert found.wait_s is None or 0 <= found.wait_s <= MAX_WAIT_S
    assert found.applied.isascii()
    assert parse_prefer([found.applied]).waits == found.waits


@FUZZED
@given(near("Bearer sk-1", "bearer  sk-1 ", "Basic abc", "Bearer"))
def test_authorization(header: str) -> None:
    try:
        key = _bearer(header)
    except AuthenticationError:
        return
    assert key
    assert key == key.strip()


@FUZZED
@given(near("bytes=0-5", "bytes=-5", "bytes=5-", "bytes=999999999999999999-", "bytes=0-0,5-6"), st.integers(0, 1000))
def test_ranges(header: str, size: int) -> None:
    try:
        start, end = _span(header, size)
    except RangeNotSatisfiableError:
        return
    assert 0 <= start <= end <= size
    assert start < end or size == 0


@FUZZED
@given(near(*DATES), st.integers(1, 12))
def test_waits_that_receivers_of_webhooks_ask_for(text: str, tries: int) -> None:
    seconds = parse_retry_after(text)

    assert seconds is None or seconds >= 0
    delay_s = next_delay_s(tries, seconds)
    assert delay_s is None or 0 < delay_s <= 1.1 * 86_400


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """No log of OpenTelemetry, which repeats headers that no report can hold."""
    caplog.set_level(logging.CRITICAL, "opentelemetry")


PARENTS: Final = near(
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff-0-0-0", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"
)


@FUZZED
@given(PARENTS, near("a=b,c=d", "a@b=c", ",".join(f"k{number}=v" for number in range(40))))
def test_contexts_of_traces(quiet: None, traceparent: str, tracestate: str) -> None:
    context = _context({"traceparent": traceparent, "tracestate": tracestate})
    found = get_current_span(context).get_span_context()

    headers: dict[str, str] = {}
    _W3C.inject(headers, context)
    assert found.is_valid == bool(headers)
    if headers:
        assert len(headers["traceparent"]) == 55
        assert get_current_span(_context(headers)).get_span_context() == found


@FUZZED
@given(near("0", "3", "٣", "999", "9" * 5000))
def test_counts_of_retries(header: str) -> None:
    request = SimpleNamespace(headers={"x-stainless-retry-count": header})

    assert 0 <= retry_count(cast("Call", SimpleNamespace(request=request))) < 1000


BODY: Final = {"model": "m", "messages": [{"role": "user", "content": "é"}], "n": 10**30}


@FUZZED
@given(faulty_json(BODY))
def test_fingerprints(body: bytes) -> None:
    assert len(fingerprint_of(body)) == 64
    assert fingerprint_of(body) != fingerprint_of(body, "nec")
    assert fingerprint_of(json.encode(BODY)) == fingerprint_of(json.encode(dict(reversed(BODY.items()))))


@FUZZED
@given(near("job_" + new_ulid(), "chatcmpl-" + new_ulid(), "resp_", "job_" + "u" * 26))
def test_ids(text: str) -> None:
    found = parse_id(text, *JOB_PREFIXES)
    if found is not None:
        assert text.endswith(found)
        assert oldest_ulid(ulid_ms(found)) <= found


@share_of(0.5)
@given(
    near(
        "0,5-10,20",
        "0-9999,10000-19999",
        "5-1",
        "-",
        "1" * 7,
        ",".join(f"{n}-{n + 9999}" for n in range(0, 999_999, 2000)),
    )
)
def test_ranges_of_pages(text: str) -> None:
    form = ParseForm(file=cast("Any", None), page_range=text)
    try:
        pages = form.pages()
    except InvalidFieldError:
        return
    assert pages is None or (pages and pages == sorted(set(pages)) and pages[0] >= 0 and len(pages) <= 10_000)
