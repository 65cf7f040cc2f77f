"""Secrets at rest: API keys as hashes, provider keys encrypted (AES-256-GCM)."""

import hashlib
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


def new_api_key(prefix: str = "sk-") -> str:
    """Return a new key: a prefix and 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Return what is stored of an API key; a plain SHA-256 suffices for 256 random bits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def mask(secret: str) -> str:
    """Return the first and last 8 characters; all of a short secret is hidden."""
    return f"{secret[:8]}...{secret[-8:]}" if len(secret) >= 24 else "..."


class SecretBox:
    """Encrypts with a key derived from the installation's secret; decrypts also what previous secrets encrypted."""

    def __init__(self, secret: str, previous: Sequence[str] = ()) -> None:
        self._cipher, *self._previous = [_cipher(one) for one in (secret, *previous)]

    def seal(self, text: str) -> bytes:
        """Return nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), None)

    def open(self, sealed: bytes) -> str:
        """Return the text, also of a previous secret; raises `cryptography.exceptions.InvalidTag` if it was another."""
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        for cipher in (self._cipher, *self._previous):
            with suppress(InvalidTag, ValueError):  # a piece of what was sealed is too short for a nonce
                return cipher.decrypt(nonce, text, None).decode()
        raise InvalidTag


def _cipher(secret: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"sluice provider keys\x00" + secret.encode()).digest())
