"""Several answers to one chat, also from providers that give fewer at once than they are asked for."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Raw, json
from msgspec.structs import replace

from worker.context import JobContext
from worker.jobs.streams import StreamedChoices, relay
from worker.jobs.upstream import MEMBERS
from worker.providers.base import ProviderCall, ProviderError

_N: Final = b'"n"'
_NUMBER: Final = json.Decoder(int | None, strict=False)
"""Numbers may be spelled as texts, as everywhere."""
_ABOUT_N: Final = re.compile(r"`n`|'n'|\bn (must|should|>|!=)|completion choice", re.IGNORECASE)


class Wanted:
    """How many answers a chat wants, and in which calls."""

    def __init__(self, body: bytes) -> None:
        self.number = _NUMBER.decode(MEMBERS.decode(body).get("n", b"1")) or 1 if _N in body else 1
        self._body = body
        self._is_single = False
        """Whether the provider refuses to give several."""
        self._known = -1

    def next_body(self, known: int) -> bytes | None:
        """Return the body of the next call if so many answers are there; None if they are all there will be."""
        missing = self.number - known
        if missing <= 0 or known == self._known:  # a call that gave nothing
            return None
        self._known = known
        asked = 1 if self._is_single else missing
        if asked == self.number:
            return self._body
        return json.encode(MEMBERS.decode(self._body) | {"n": Raw(b"%d" % asked)})

    def is_refused(self, error: ProviderError) -> bool:
        """Return whether the provider gives one answer at a time, as an error says; the next call asks for one."""
        is_about_n = error.blame == "request" and (error.param == "n" or _ABOUT_N.search(error.message) is not None)
        if self._is_single or self.number == 1 or not is_about_n:
            return False
        self._is_single, self._known = True, -1
        return True


async def relay_choices(
    ctx: JobContext, call: ProviderCall, answer: StreamedChoices, take: Callable[[bytes], Iterable[bytes]]
) -> None:
    """Send what `take` makes of each piece until all answers are there, one after the other if need be.

    Raises `ProviderError`.
    """
    wanted = Wanted(call.body)
    while (body := wanted.next_body(answer.begin_call())) is not None:
        try:
            await relay(ctx, call if body is call.body else replace(call, body=body), answer, take)
        except ProviderError as error:
            if not wanted.is_refused(error):
                raise
