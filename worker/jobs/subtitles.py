"""Subtitles from the segments of a transcript, and the other way round."""

from collections.abc import Sequence
from typing import Final, Protocol

_ARROW: Final = " --> "


class Segment(Protocol):
    """A text from `start` to `end` seconds."""

    @property
    def text(self) -> str:
        """What is said."""
        ...

    @property
    def start(self) -> float:
        """Seconds from the beginning."""
        ...

    @property
    def end(self) -> float:
        """Seconds from the beginning."""
        ...


def to_srt(segments: Sequence[Segment]) -> str:
    """Return the segments as SubRip."""
    cues = [
        f"{number}\n{_time(one.start, ',')}{_ARROW}{_time(one.end, ',')}\n{_line(one.text)}\n"
        for number, one in enumerate(segments, start=1)
    ]
    return "\n".join(cues)


def to_vtt(segments: Sequence[Segment]) -> str:
    """Return the segments as WebVTT."""
    cues = [f"{_time(one.start, '.')}{_ARROW}{_time(one.end, '.')}\n{_line(one.text)}\n" for one in segments]
    return "\n".join(["WEBVTT\n", *cues])


def text_of(subtitles: str) -> str:
    """Return what is said, without numbers and times."""
    lines = [line.strip() for line in subtitles.splitlines()]
    spoken = [line for line in lines if line and not line.isdecimal() and _ARROW.strip() not in line]
    return " ".join(line for line in spoken if not line.startswith("WEBVTT"))


def _line(text: str) -> str:
    """Return the text on one line: an empty one would end the cue."""
    return " ".join(text.split()).replace(_ARROW.strip(), "->")


def _time(seconds: float, separator: str) -> str:
    ms = max(round(seconds * 1000), 0)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{separator}{ms % 1000:03}"
