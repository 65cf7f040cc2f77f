"""The lanes, and the connection to Redis that all of them share."""

import asyncio
from typing import Any, Final, TypedDict

from arq import ArqRedis
from msgspec import msgpack
from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection

from shared.jobs.messages import JobMessage

INFERENCE: Final = "sluice:inference"
"""Jobs that call a provider; bands: interactive, background, batch."""
PLATFORM: Final = "sluice:platform"
"""Everything else: sweeps, cron.  Own slots, so that it never waits for inference nor the other way round."""
LANES: Final = (INFERENCE, PLATFORM)

RUN_JOB: Final = "run_job"
"""The one arq function of the inference lane; the kind travels in the message."""

_CONNECTIONS: Final = 64
_CONNECT_TIMEOUT_S: Final = 2.0
_SOCKET_TIMEOUT_S: Final = 5.0
"""Longer than any blocking command, which blocks for 1 s at a time."""


class InferencePayload(TypedDict):
    """arq's own payload, with its one argument typed."""

    t: int | None
    f: str
    a: tuple[JobMessage]
    k: dict[str, str]
    et: int


_INFERENCE_DECODER = msgpack.Decoder(InferencePayload)


class _Sending:
    """redis-py sends under `wait_for`: a task per command, and in Python 3.11 it may swallow a cancellation."""

    socket_timeout: float | None

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send under a plain timeout."""
        timeout_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(timeout_s):
                await super().send_packed_command(command, check_health)  # type: ignore[misc]  # of the connection
        finally:
            self.socket_timeout = timeout_s


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


def open_pool(url: str) -> BlockingConnectionPool:
    """Return the connections of this process; they are opened when they are needed."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=_SOCKET_TIMEOUT_S,
    )
    pool.connection_class = _CONNECTIONS_OF[pool.connection_class]
    return pool


def open_lane(pool: BlockingConnectionPool, lane: str) -> ArqRedis:
    """Return the client of one lane; payloads are MessagePack instead of arq's pickle."""
    decode: Any = _INFERENCE_DECODER.decode if lane == INFERENCE else msgpack.decode
    return ArqRedis(pool, job_serializer=_encode, job_deserializer=decode, default_queue_name=lane)


def decode_message(payload: bytes) -> JobMessage:
    """Return the message inside a payload of the inference lane."""
    return _INFERENCE_DECODER.decode(payload)["a"][0]


def group_of(router_id: int) -> str:
    """Return the group of the jobs of a router: what one slow model cannot take from the others."""
    return f"r{router_id}"


def _encode(payload: dict[str, Any]) -> bytes:
    return msgpack.encode(payload, enc_hook=repr)  # an exception as the result of a cron job
