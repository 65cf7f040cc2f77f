"""Voices that are known: those of OpenAI, which the simulator has as well.

No wire format tells the voices of a server, so nothing is known of other ones: every voice is passed on to them, and a
server that does not have it says so.  Source: OpenAI documentation, "Text to speech", voice options.
"""

from collections.abc import Mapping
from typing import Final

from shared.directory import Router
from shared.errors import BadRequestError
from shared.models.schemas import DEFAULT_URL

_NAMES: Final = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()
VOICES: Final[Mapping[str, tuple[str, str]]] = {name: (name.capitalize(), "en") for name in _NAMES}
"""Id → name and language; these voices speak other languages, too."""


class VoiceNotFoundError(BadRequestError):
    """The model has no such voice."""

    code = "voice_not_found"

    def __init__(self, voice: str) -> None:
        super().__init__(f"Voice `{voice}` not found.", param="voice")


def lacks_voice(router: Router, voice: str) -> bool:
    """Return whether it is certain that no server of the router has this voice; OpenAI may get new ones any day."""
    return voice not in VOICES and all(provider.type == "simulator" for provider in router.providers)


def voices_of(router: Router) -> Mapping[str, tuple[str, str]] | None:
    """Return the voices of a speech router; None if they are not known."""
    is_known = all(
        provider.type == "simulator" or (provider.type == "openai" and provider.url == DEFAULT_URL["openai"])
        for provider in router.providers
    )
    return VOICES if is_known else None
