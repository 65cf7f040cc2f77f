"""Secrets of the installation: made once, kept in the data folder, readable by its owner only."""

import secrets
from pathlib import Path

from shared.secrets import SecretBox, new_api_key
from shared.settings import Settings, SettingsError


def require_keys(settings: Settings, *names: str) -> None:
    """Raise `SettingsError` if one of these keys is neither set nor in the data folder.

    Whoever starts a whole installation makes what is missing; a process started by itself would make a key that no
    other process knows.
    """
    for name in names:
        if getattr(settings, name) is None and not (settings.data_path / name).exists():
            raise SettingsError(f"SLUICE_{name.upper()} must be set, the same for every process.")


def admin_key(settings: Settings) -> str:
    """Return the administrator's key: as set, or the one in the data folder, which is made if it is missing."""
    return settings.admin_key or _kept(settings.data_path / "admin_key", new_api_key())


def secret_box(settings: Settings, folder: Path | None = None) -> SecretBox:
    """Return what encrypts secrets at rest, with a key as set, or the one in the data folder, likewise.

    Each further line of that file is a key that was used before, as are those of `SLUICE_PREVIOUS_ENCRYPTION_KEYS`.
    """
    if settings.encryption_key is not None:
        return SecretBox(settings.encryption_key, [one for one in settings.previous_encryption_keys.split(",") if one])
    path = encryption_key_file(settings) if folder is None else folder / encryption_key_file(settings).name
    first, *previous = _kept(path, secrets.token_urlsafe(32)).split()
    return SecretBox(first, previous)


def encryption_key_file(settings: Settings) -> Path:
    """Return where the encryption key is kept that no setting gives."""
    return settings.data_path / "encryption_key"


def _kept(path: Path, made: str) -> str:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(made + "\n")
    except FileExistsError:
        return path.read_text().strip()
    return made
