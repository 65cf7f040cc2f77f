"""Voices that are known: those that the operator gave a router, and those of OpenAI, which the simulator has as well.

No wire format tells the voices of a server.  As long as nobody told them either, every voice is passed on, and a server
that does not have it says so.  Source: OpenAI documentation, "Text to speech", voice options.
"""

from collections.abc import Sequence
from typing import Final

from shared.directory import Router
from shared.errors import BadRequestError
from shared.models.schemas import DEFAULT_URL
from shared.routers.schemas import RouterVoice

_NAMES: Final = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()
_KNOWN: Final = [RouterVoice(id=name, name=name.capitalize(), language="en") for name in _NAMES]
"""These voices speak other languages, too."""


class VoiceNotFoundError(BadRequestError):
    """The model has no such voice."""

    code = "voice_not_found"

    def __init__(self, voice: str) -> None:
        super().__init__(f"Voice `{voice}` not found.", param="voice")


def lacks_voice(router: Router, voice: str) -> bool:
    """Return whether it is certain that no server of the router has this voice; OpenAI may get new ones any day."""
    if router.voices is not None:
        return all(voice != one.id for one in router.voices)
    return voice not in _NAMES and all(provider.type == "simulator" for provider in router.providers)


def voices_of(router: Router) -> Sequence[RouterVoice]:
    """Return the voices of a speech router, by id; none if they are not known."""
    if router.voices is not None:
        return sorted(router.voices, key=lambda one: one.id)
    is_known = all(
        provider.type == "simulator" or (provider.type == "openai" and provider.url == DEFAULT_URL["openai"])
        for provider in router.providers
    )
    return _KNOWN if is_known else ()
