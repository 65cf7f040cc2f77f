"""Parent of all processes of an installation on one machine: `python -m worker.supervisor`, which is `scripts/run`.

It prepares the data folder and the database, starts a private Redis unless another one is set, api and worker
processes, and replaces what dies.  A lease tells within seconds that a worker is silent; a parent knows within
milliseconds that it is dead, and hands its jobs back at once.  SIGTERM: the api stops accepting, workers drain, Redis
ends, exit code 0.
"""

import asyncio
import ctypes
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import SubprocessError
from typing import IO, Final

import structlog
from msgspec import Struct
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from shared.embedded_redis import RedisMissingError, answers, redis_command
from shared.installation import admin_key, secret_box
from shared.log import configure_logging
from shared.migrations import SchemaError
from shared.queue.connections import open_pool
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import LANES, open_lane
from shared.settings import Settings, SettingsError, load_settings
from worker.bootstrap import UpstreamError, prepare
from worker.leases import new_token

log = structlog.get_logger()

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0
_HEALTHY_S: Final = 10.0
"""A child that lived this long is replaced at once; one that died younger waits, twice as long each time."""
_START_S: Final = 10.0
_STOP_MARGIN_S: Final = 10.0
_PORT_WAIT_S: Final = 3.0
_PR_SET_PDEATHSIG: Final = 1


class StartError(Exception):
    """The installation cannot be started; the message says why."""


class Child(Struct, frozen=True, kw_only=True):
    """A process that is kept alive."""

    name: str
    command: Callable[[str], Sequence[str]]
    """From the token of this generation to the command line."""
    dies_by: signal.Signals = signal.SIGTERM
    """What it gets when the supervisor itself is killed."""
    ended: Callable[[str], "asyncio.Future[None]"] | None = None
    """Called with the token when a generation has ended."""


class Group:
    """Children that are started and stopped together."""

    def __init__(self, children: Sequence[Child], *, stop_s: float) -> None:
        self._children = children
        self._stop_s = stop_s
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all of them."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(child)) for child in self._children]

    async def stop(self) -> None:
        """End all of them: SIGTERM, then SIGKILL; returns when they are gone."""
        self._stopping.set()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):  # the groups behind this one are to be stopped all the same
                log.error("process_not_kept", error=repr(ended))

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = loop.time()
            await self._run(child)
            pause_s = _FIRST_PAUSE_S if loop.time() - started >= _HEALTHY_S else min(pause_s * 2, _LONGEST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def _run(self, child: Child) -> None:
        """Start one generation and return when it has ended; at once if the machine has no room for it now."""
        token = new_token()
        try:
            process = await asyncio.create_subprocess_exec(
                *child.command(token), preexec_fn=lambda: _die_with_parent(child.dies_by)
            )
        except (OSError, SubprocessError) as error:
            log.error("process_not_started", name=child.name, error=repr(error))  # noqa: TRY400  # one line says it all
            return
        status = await self._attend(process)
        if child.ended is not None:
            await child.ended(token)
        if not self._stopping.is_set():
            log.error("process_ended", name=child.name, pid=process.pid, status=status)

    async def _attend(self, process: asyncio.subprocess.Process) -> int:
        """Return the exit status; when the group stops, end the process."""
        loop = asyncio.get_running_loop()
        ended, stopping = loop.create_task(process.wait()), loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                _send_signal(process, signal.SIGTERM)
                await asyncio.wait({ended}, timeout=self._stop_s)
        finally:
            stopping.cancel()
            if not ended.done():
                _send_signal(process, signal.SIGKILL)
        return await ended


def _die_with_parent(signum: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signum))
    os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which ends its children in order


def _send_signal(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signum)


def lock_data_folder(settings: Settings) -> IO[str]:
    """Return the locked file; raises `StartError` if another supervisor has it."""
    try:
        settings.data_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (settings.data_path / "lock").open("a+")
    except OSError as error:
        raise StartError(f"SLUICE_DATA_DIR: {settings.data_path} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        raise StartError(
            f"Sluice is already running on {settings.data_path} (process {file.read().strip() or 'unknown'})."
        ) from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


async def check_port(settings: Settings) -> None:
    """Raise `StartError` if somebody else listens on the port: api processes share it, so none of them would notice."""
    deadline = asyncio.get_running_loop().time() + _PORT_WAIT_S
    while True:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, settings.port))
            except OSError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise StartError(f"{settings.host}:{settings.port} cannot be used: {error.strerror}.") from error
            else:
                return
        await asyncio.sleep(0.1)


async def supervise(settings: Settings) -> None:
    """Run the installation until SIGTERM or SIGINT."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    await check_port(settings)
    is_new = settings.admin_key is None and not (settings.data_path / "admin_key").exists()
    key = admin_key(settings)
    secret_box(settings)
    groups: list[Group] = []
    try:
        if settings.redis_url is None:
            groups.append(_redis_group(settings))
            groups[-1].start()
        await prepare(settings)
        await _wait_for_redis(settings)
        stop_s = settings.leave_s + settings.drain_s + _STOP_MARGIN_S
        groups.append(Group(_workers(settings), stop_s=stop_s))
        groups.append(Group([_api(place) for place in range(settings.api_processes)], stop_s=stop_s))
        for group in groups[-2:]:
            group.start()
        stop = loop.create_task(stopping.wait())
        await asyncio.wait({stop, loop.create_task(_wait_for_api(settings))}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            _greet(settings, key, is_new=is_new)
        await stop
        log.info("stopping")
    finally:
        for group in reversed(groups):
            await group.stop()


def _redis_group(settings: Settings) -> Group:
    folder = settings.data_path / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    settings.redis_socket.unlink(missing_ok=True)
    command = redis_command(folder, settings.redis_socket)
    return Group([Child(name="redis", command=lambda _token: command, dies_by=signal.SIGKILL)], stop_s=_STOP_MARGIN_S)


def _workers(settings: Settings) -> list[Child]:
    return [_worker(settings, shard, place) for shard in settings.own_shards() for place in range(settings.workers)]


def _worker(settings: Settings, shard: int, place: int) -> Child:
    async def release(token: str) -> None:
        pool = open_pool(settings.redis_urls()[shard])
        try:
            for lane in LANES:
                await JobQueue(open_lane(pool, lane)).release(token, lease_s=settings.lease_s)
        except (RedisError, OSError) as error:
            log.warning("leases_not_released", error=repr(error))  # they run out by themselves
        finally:
            await pool.disconnect()

    return Child(
        name=f"worker-{shard}-{place}",
        command=lambda token: [sys.executable, "-m", "worker", token, str(shard)],
        ended=lambda token: asyncio.ensure_future(release(token)),
    )


def _api(place: int) -> Child:
    return Child(name=f"api-{place}", command=lambda _token: [sys.executable, "-m", "api"])


async def _wait_for_redis(settings: Settings) -> None:
    """Return when Redis answers; raises `StartError` after 10 s."""
    deadline = asyncio.get_running_loop().time() + _START_S
    if settings.redis_url is None:
        while not answers(settings.redis_socket):
            if asyncio.get_running_loop().time() > deadline:
                raise StartError("The embedded Redis does not start; see its messages above.")
            await asyncio.sleep(0.01)
        return
    pool = open_pool(settings.redis_url)
    try:
        await open_lane(pool, LANES[0]).ping()
    except (RedisError, OSError) as error:
        raise StartError(f"SLUICE_REDIS_URL cannot be used: {error!r}") from error
    finally:
        await pool.disconnect()


async def _wait_for_api(settings: Settings) -> None:
    """Return when an api process accepts connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


def _greet(settings: Settings, key: str, *, is_new: bool) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    lines = [f"Sluice listens on http://{host}:{settings.port}"]
    if settings.admin_key is None:
        where = Path(settings.data_dir) / "admin_key"
        is_read = sys.stdout.isatty()  # by a person; what goes to a log is kept there
        lines.append(f"Administrator's key{' (new)' if is_new else ''}, kept in {where}{f': {key}' if is_read else ''}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Start the installation; returns its exit code."""
    try:
        os.umask(0o077)
        settings = load_settings()
        configure_logging(settings, "supervisor")
        with lock_data_folder(settings):
            asyncio.run(supervise(settings))
    except (SettingsError, StartError, RedisMissingError, UpstreamError, SchemaError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        reason = str(cause) or "it does not answer"
        sys.stderr.write(f"The database cannot be used: {reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
