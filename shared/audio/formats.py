"""Tell by its first bytes, or by its name, whether a file may be audio.

Containers that hold pictures or sound alike (MP4, Matroska, Ogg) count as audio: the provider looks inside.
"""

from pathlib import PurePath
from typing import Final

from shared.files.uploads import UploadedFile

_MAGIC: Final = (
    b"ID3",
    b"fLaC",
    b"OggS",
    b"\x1aE\xdf\xa3",
    b"#!AMR",
    b"FORM",
    b".snd",
    b"MAC ",
    b"0&\xb2u\x8ef\xcf\x11",
)
_EXTENSIONS: Final = frozenset(
    """
    .3gp .aac .ac3 .aif .aiff .amr .au .caf .flac .m4a .m4b .mka .mp2 .mp3 .mp4 .mpeg .mpga .oga .ogg .opus .wav .weba
    .webm .wma
    """.split()
)


def may_be_audio(file: UploadedFile) -> bool:
    """Return whether bytes or name speak for audio."""
    head = file.head
    if head.startswith(_MAGIC) or (head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"):
        return True
    is_mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0  # MP3 without tags, AAC in ADTS
    return is_mpeg or head[4:8] == b"ftyp" or PurePath(file.name).suffix.lower() in _EXTENSIONS
