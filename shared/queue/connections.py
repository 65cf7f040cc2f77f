"""The connections of a process to Redis: redis-py's, less what costs time on each command."""

import asyncio
from typing import Any, Final

from redis._parsers import _AsyncHiredisParser  # not exported; hiredis is a dependency
from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from typing_extensions import override

_CONNECTIONS: Final = 64
_CONNECT_TIMEOUT_S: Final = 2.0
_SOCKET_TIMEOUT_S: Final = 5.0
"""Longer than any blocking command, which blocks for 1 s at a time."""


class _Parser(_AsyncHiredisParser):
    """redis-py reads each answer under a timer; those that come with another one need none."""

    async def read_from_socket(self) -> Any:
        """Wait for the next bytes."""
        async with asyncio.timeout(_SOCKET_TIMEOUT_S):
            return await super().read_from_socket()  # type: ignore[no-untyped-call]


class _Sending:
    """redis-py sends under `wait_for`: a task per command, and in Python 3.11 it may swallow a cancellation."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send under a plain timeout."""
        async with asyncio.timeout(_SOCKET_TIMEOUT_S):
            await super().send_packed_command(command, check_health)  # type: ignore[misc]  # of the connection


class _TcpConnection(_Sending, Connection):
    pass


class _TlsConnection(_Sending, SSLConnection):
    pass


class _UnixConnection(_Sending, UnixDomainSocketConnection):
    pass


_CONNECTIONS_OF: Final[dict[type, type]] = {
    Connection: _TcpConnection,
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _UnixConnection,
}


class _Pool(BlockingConnectionPool):
    """Takes a free connection without locks, and sees from its buffer whether it is still good.

    redis-py asks the socket under a timer each time, which with the locks is half the cost of a command.
    """

    _blocked = 0

    @override
    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        if not self.can_get_connection():
            self._blocked += 1
            try:
                return await super().get_connection()
            finally:
                self._blocked -= 1
        connection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    @override
    async def ensure_connection(self, connection: AbstractConnection) -> None:
        reader: Any = connection._reader  # noqa: SLF001  # there is no public way to ask for free
        if reader is not None and (reader.at_eof() or reader._buffer or reader.exception() is not None):  # noqa: SLF001
            await connection.disconnect(nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call]

    @override
    async def release(self, connection: AbstractConnection) -> None:
        if self._blocked:
            await super().release(connection)
        else:
            self._in_use_connections.remove(connection)
            self._available_connections.append(connection)


def open_pool(url: str) -> BlockingConnectionPool:
    """Return the connections of this process; they are opened when they are needed."""
    pool: BlockingConnectionPool = _Pool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        parser_class=_Parser,
    )
    pool.connection_class = _CONNECTIONS_OF[pool.connection_class]
    pool.connection_kwargs["socket_timeout"] = None  # `_Parser` and `_Sending` have it, whatever the URL says
    return pool
