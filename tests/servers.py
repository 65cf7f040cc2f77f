"""Real servers for the tests: redis-server on a unix socket, and PostgreSQL."""

import subprocess
from pathlib import Path

from shared.embedded_redis import start_redis


class RedisServer:
    """A redis-server without persistence: killed and started again, it is empty."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self._folder / "appendonly.aof").unlink(missing_ok=True)
        self._process = start_redis(self._folder, self.socket)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
