"""Configurations of other gateways: make their models models here."""

import argparse
import os
from pathlib import Path
from typing import Any, Final

import from_litellm
import from_opengatellm
import yaml
from client import Client
from lookup import id_of
from nouns import ROLES
from plans import ConfigError, Importer, Read, members_of

_READERS: Final[dict[str, Read]] = {"model_list": from_litellm.read, "models": from_opengatellm.read}
"""The list of models in a file, by which its kind is known → what reads it."""


def add_commands(commands: Any) -> None:
    """Add the command of this module to the parser."""
    add = commands.add_parser(
        "import-config", help="make routers and providers of a configuration of LiteLLM or OpenGateLLM"
    )
    add.add_argument("file", type=Path, help="config.yaml of a LiteLLM proxy, or config.yml of OpenGateLLM")
    add.add_argument("--dry-run", action="store_true", help="only say what would be made")
    add.add_argument("--no-probe", action="store_true", help="add providers without asking whether they answer")
    add.add_argument(
        "--grant", action="append", default=[], metavar="ROLE",
        help="id or name: give this role the new models without a limit; may be repeated",
    )  # fmt: skip
    add.set_defaults(command=import_config)


async def import_config(client: Client, options: argparse.Namespace) -> int:
    """Carry over what can be, and say of every part what became of it; returns 0 if nothing failed."""
    document = load(options.file)
    reader = next((read for name, read in _READERS.items() if name in document), None)
    if reader is None:
        raise ConfigError(f"{options.file}: there is neither `model_list` (LiteLLM) nor `models` (OpenGateLLM).")
    plan = reader(document, os.environ)
    roles = [await id_of(client, ROLES, text) for text in options.grant]
    importer = Importer(client, is_dry=options.dry_run, probes=not options.no_probe, roles=roles)
    return 1 if await importer.run(plan) else 0


def load(file: Path) -> dict[str, Any]:
    """Return what a file holds; raises `ConfigError`."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # odd dates, deep lists
        raise ConfigError(f"{file}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: it is no configuration.")
    return members_of(document, str(file))
