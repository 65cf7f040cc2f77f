"""How the installation is as a whole: kept for five seconds, looked at by whoever asks first after that."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from shared.clock import now_ms
from shared.models.health import ClusterHealth

_FRESH_MS: Final = 5000


class ClusterWatch:
    """Keeps what was found last."""

    def __init__(self) -> None:
        self._found: ClusterHealth | None = None
        self._looked_ms = 0
        self._looking = asyncio.Lock()

    async def get(self, look: Callable[[], Awaitable[ClusterHealth]]) -> ClusterHealth:
        """Return what `look` found, at most five seconds ago."""
        async with self._looking:
            if self._found is None or now_ms() - self._looked_ms > _FRESH_MS:
                self._found, self._looked_ms = await look(), now_ms()
            return self._found
