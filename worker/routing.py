"""Pick a provider of a router."""

import random

from shared.directory import Provider, Router


def pick_provider(router: Router, tried: set[int]) -> Provider | None:
    """Return a random provider that is not in `tried`; None if none is left."""
    untried = [provider for provider in router.providers if provider.id not in tried]
    return random.choice(untried) if untried else None  # noqa: S311  # spreading load is no secret
