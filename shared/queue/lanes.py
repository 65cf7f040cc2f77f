"""The lanes: the two queues of an installation and what travels through them."""

from typing import Any, Final, TypedDict

from arq import ArqRedis
from msgspec import msgpack
from redis.asyncio import BlockingConnectionPool

from shared.jobs.messages import JobMessage

INFERENCE: Final = "sluice:inference"
"""Jobs that call a provider; bands: interactive, background, batch."""
PLATFORM: Final = "sluice:platform"
"""Everything else: webhooks, sweeps, cron.  Own slots, so that it never waits for inference nor the other way round."""
LANES: Final = (INFERENCE, PLATFORM)

RUN_JOB: Final = "run_job"
"""The one arq function of the inference lane; the kind travels in the message."""


class InferencePayload(TypedDict):
    """arq's own payload, with its one argument typed."""

    t: int | None
    f: str
    a: tuple[JobMessage]
    k: dict[str, str]
    et: int


_INFERENCE_DECODER = msgpack.Decoder(InferencePayload)


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
