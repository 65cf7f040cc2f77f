"""Signing secrets, and signatures as Standard Webhooks 1.0 wants them.

An endpoint has one secret, and for a while after a rotation older ones; every one of them signs.  At rest they are
encrypted together.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from msgspec import Struct, json

from shared.secrets import SecretBox

_PREFIX: Final = "whsec_"
_BYTES: Final = 32
_KEPT: Final = 10
_SHORTEST, _LONGEST = 24, 64
"""Bytes of a key that a caller brings."""


class Secret(Struct, array_like=True):
    """One signing secret; the newest has no end."""

    text: str
    ends_ms: int | None = None


def new_secret() -> str:
    """Return `whsec_` and 32 random bytes as base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Return whether a caller may bring this secret: `whsec_` and 24 to 64 bytes as base64."""
    if not text.startswith(_PREFIX):
        return False
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return _SHORTEST <= len(key) <= _LONGEST


def hint(secret: str) -> str:
    """Return what may be shown of a secret."""
    return f"{_PREFIX}…{secret.rstrip('=')[-4:]}"


def seal(box: SecretBox, found: list[Secret]) -> bytes:
    """Return the secrets encrypted."""
    return box.seal(json.encode(found).decode())


def unseal(box: SecretBox, sealed: bytes) -> list[Secret]:
    """Return the secrets, newest first; raises `cryptography.exceptions.InvalidTag`."""
    return json.decode(box.open(sealed), type=list[Secret])


def rotate(found: list[Secret], secret: str, now_ms: int, overlap_s: int) -> list[Secret]:
    """Return the secrets with a new one in front; the old ones end at once unless there is an overlap."""
    if not overlap_s:
        return [Secret(secret)]
    ends_ms = now_ms + overlap_s * 1000
    old = [Secret(one.text, one.ends_ms or ends_ms) for one in found if one.ends_ms is None or one.ends_ms > now_ms]
    return [Secret(secret), *old[:_KEPT]]


def unseal_headers(box: SecretBox, sealed: bytes | None) -> dict[str, str]:
    """Return the headers of an endpoint, none if there are none; raises `cryptography.exceptions.InvalidTag`."""
    return {} if sealed is None else json.decode(box.open(sealed), type=dict[str, str])


def sign(found: list[Secret], event_id: str, now_ms: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a try."""
    timestamp = str(now_ms // 1000)
    text = b"%b.%b.%b" % (event_id.encode(), timestamp.encode(), body)
    active = [one.text for one in found if one.ends_ms is None or one.ends_ms > now_ms]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{_signature(secret, text)}" for secret in active),
    }


def _signature(secret: str, text: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
