"""The EcoLogits methodology, version 0.11.3, for the generation of text.

Sizes in billions of parameters, energy in kWh, mass in kg CO2e, water in litres, time in seconds.
Source: ecologits.ai, "LLM inference"; constants of the release 0.11.3; `tests/shared/test_carbon.py` compares with it.
"""

from math import ceil, exp, log2
from typing import Final

METHOD: Final = "ecologits-0.11"
PREFILL_METHOD: Final = "prefill-1"

BATCH_SIZE: Final = 64
BITS: Final = 16
GPU_MEMORY_GB: Final = 80.0
PUE: Final = 1.2
WUE: Final = 1.8

_ALPHA: Final = 1.1665273170451914e-06
_BETA: Final = -0.011205921025579175
_GAMMA: Final = 4.052928146734005e-05
_LATENCY_A: Final = 0.0006785088094353663
_LATENCY_B: Final = 0.0003119310311688259
_LATENCY_G: Final = 0.019473717579473387
_SERVER_KW: Final = 1.2
_SERVER_GPUS: Final = 8
_SERVER_EMBODIED_KG: Final = 5700.0
_GPU_EMBODIED_KG: Final = 273.0
_LIFETIME_S: Final = 3 * 365 * 24 * 3600
_MEMORY_OVERHEAD: Final = 1.2
_PREFILL_KWH: Final = 8.7e-10
"""kWh per billion active parameters and uncached prompt token; physics, not calibrated."""


def gpu_count(total_params: float, bits: float, gpu_memory_gb: float) -> int:
    """Return the number of GPUs that hold the model, a power of two."""
    needed = ceil(_MEMORY_OVERHEAD * total_params * bits / 8 / gpu_memory_gb)
    return int(2 ** ceil(log2(max(needed, 1))))


def gpu_kwh_per_token(active_params: float, batch_size: float) -> float:
    """Return the energy of one GPU per output token."""
    return (_ALPHA * exp(_BETA * batch_size) * active_params + _GAMMA) / 1000


def seconds_per_token(active_params: float, batch_size: float) -> float:
    """Return the modelled time per output token."""
    return _LATENCY_A * active_params + _LATENCY_B * batch_size + _LATENCY_G


def server_kwh_per_second(gpus: int, batch_size: float) -> float:
    """Return one request's share of the server's energy without its GPUs."""
    return _SERVER_KW * (gpus / _SERVER_GPUS) / batch_size / 3600


def embodied_kg_per_second(gpus: int, batch_size: float) -> float:
    """Return one request's share of what making the server and its GPUs emitted."""
    made = gpus / _SERVER_GPUS * _SERVER_EMBODIED_KG + gpus * _GPU_EMBODIED_KG
    return made / (_LIFETIME_S * batch_size)


def prefill_kwh(active_params: float, prompt_tokens: int) -> float:
    """Return the energy of reading the prompt (`prefill-1`), which the EcoLogits method leaves out."""
    return _PREFILL_KWH * active_params * prompt_tokens
