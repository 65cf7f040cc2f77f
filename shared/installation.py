"""Secrets of the installation: made once, kept in the data folder, readable by its owner only."""

import secrets
from pathlib import Path

from shared.secrets import new_api_key
from shared.settings import Settings


def admin_key(settings: Settings) -> str:
    """Return the administrator's key: as set, or the one in the data folder, which is made if it is missing."""
    return settings.admin_key or _kept(settings.data_path / "admin_key", new_api_key())


def encryption_secret(settings: Settings) -> str:
    """Return the secret of provider keys at rest, likewise."""
    return settings.encryption_key or _kept(settings.data_path / "encryption_key", secrets.token_urlsafe(32))


def _kept(path: Path, made: str) -> str:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(made + "\n")
    except FileExistsError:
        return path.read_text().strip()
    return made
