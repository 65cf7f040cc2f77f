"""GET /metrics: figures of all processes in the format of Prometheus."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from typing_extensions import override

from api.call import Call
from api.http import Reply, Routes
from shared.clock import now_ms
from shared.errors import QueueUnavailableError
from shared.jobs.schemas import BANDS
from shared.metrics import Metric, Series, read_metrics
from shared.provider_health import ProviderState, read_states
from shared.queue.jobs import QueueStats

routes = Routes("Monitoring")
_PREFIX: Final = "sluice_"
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


@routes.get("/metrics", right="read_metric", raises=(QueueUnavailableError,), media_type="text/plain")
async def get_metrics(call: Call) -> Reply[str]:
    """Get counters and histograms of all api and worker processes, and how queues and providers are now."""
    state = call.state
    providers = [provider for router in state.directory.routers() for provider in router.providers]
    try:
        counted = list(await read_metrics(state.redis))
        lanes = {"inference": await state.queue.stats(), "platform": await state.platform.stats()}
        states = await read_states(state.redis, [one.id for one in providers]) if providers else {}
    except (RedisError, OSError) as error:
        raise QueueUnavailableError from error
    families = [*map(_to_family, counted), *_queues(lanes), *_providers(states)]
    return Reply(body=generate_latest(_Families(families)), content_type=CONTENT_TYPE_LATEST)


class _Families(Collector):
    """What was read, as the library takes it."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    @override
    def collect(self) -> Iterator[Any]:
        return iter(self._families)


def _to_family(read: tuple[Metric, list[Series]]) -> Family:
    metric, series = read
    if metric.buckets:
        histogram = HistogramMetricFamily(_PREFIX + metric.name, metric.text, labels=metric.labels)
        for one in series:
            histogram.add_metric(one.labels, one.buckets, one.sum)
        return histogram
    counter = CounterMetricFamily(_PREFIX + metric.name, metric.text, labels=metric.labels)
    for one in series:
        counter.add_metric(one.labels, one.sum)
    return counter


def _queues(lanes: dict[str, QueueStats]) -> Iterator[Family]:
    waiting = GaugeMetricFamily(_PREFIX + "queue_ready", "Jobs that could start now.", labels=("lane", "band"))
    others = GaugeMetricFamily(
        _PREFIX + "queue_jobs", "Other jobs in the queue: due, held (running or deferred), parked.",
        labels=("lane", "state"),
    )  # fmt: skip
    oldest = GaugeMetricFamily(_PREFIX + "queue_oldest_seconds", "Longest wait of a ready job.", labels=("lane",))
    for lane, stats in lanes.items():
        for band, count in zip(BANDS, stats.ready, strict=True):
            waiting.add_metric((lane, band), count)
        for state, count in (("due", stats.due), ("held", stats.held), ("parked", stats.parked)):
            others.add_metric((lane, state), count)
        oldest.add_metric((lane,), stats.oldest_s)
    yield from (waiting, others, oldest)


def _providers(states: dict[int, ProviderState]) -> Iterator[Family]:
    is_open = GaugeMetricFamily(
        _PREFIX + "provider_breaker_open", "1 while nothing is sent to the provider.", labels=("provider",)
    )
    running = GaugeMetricFamily(
        _PREFIX + "provider_in_flight", "Attempts at providers whose attempts are counted.", labels=("provider",)
    )
    failures = GaugeMetricFamily(_PREFIX + "provider_failures", "Failures in a row.", labels=("provider",))
    for number, found in states.items():
        is_open.add_metric((str(number),), float(found.opens_ms > now_ms()))
        running.add_metric((str(number),), found.running)
        failures.add_metric((str(number),), found.failures)
    yield from (is_open, running, failures)
