"""The lanes: the two queues of an installation and what travels through them."""

from typing import Any, Final, TypedDict

from arq import ArqRedis
from msgspec import Struct, msgpack
from redis.asyncio import BlockingConnectionPool

from shared.jobs.messages import JobMessage
from shared.jobs.schemas import INGESTION

INFERENCE: Final = "sluice:inference"
"""Jobs that call a provider; bands: interactive, background, batch."""
PLATFORM: Final = "sluice:platform"
"""Everything else: ingestions, webhooks, sweeps, cron.  Own slots, so that neither lane waits for the other."""
LANES: Final = (INFERENCE, PLATFORM)
_PLATFORM_KINDS: Final = frozenset({INGESTION})

RUN_JOB: Final = "run_job"
"""The arq function of all jobs that have a row; the kind travels in the message."""


class InferencePayload(TypedDict):
    """arq's own payload, with its one argument typed."""

    t: int | None
    f: str
    a: tuple[JobMessage]
    k: dict[str, str]
    et: int


class _Named(Struct):
    f: str


_INFERENCE_DECODER = msgpack.Decoder(InferencePayload)
_NAME_DECODER = msgpack.Decoder(_Named)


def open_lane(pool: BlockingConnectionPool, lane: str) -> ArqRedis:
    """Return the client of one lane; payloads are MessagePack instead of arq's pickle."""
    decode: Any = _INFERENCE_DECODER.decode if lane == INFERENCE else msgpack.decode
    return ArqRedis(pool, job_serializer=_encode, job_deserializer=decode, default_queue_name=lane)


def lane_of(kind: str) -> str:
    """Return the lane of a kind of jobs."""
    return PLATFORM if kind in _PLATFORM_KINDS else INFERENCE


def function_of(payload: bytes) -> str:
    """Return the name of the arq function that a payload is for."""
    return _NAME_DECODER.decode(payload).f


def decode_message(payload: bytes) -> JobMessage:
    """Return the message inside a payload of `RUN_JOB`, in either lane."""
    return _INFERENCE_DECODER.decode(payload)["a"][0]


def group_of(router_id: int) -> str:
    """Return the group of the jobs of a router: what one slow model cannot take from the others."""
    return f"r{router_id}"


def _encode(payload: dict[str, Any]) -> bytes:
    return msgpack.encode(payload, enc_hook=repr)  # an exception as the result of a cron job
