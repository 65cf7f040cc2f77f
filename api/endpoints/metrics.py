"""GET /metrics: figures of all processes in the format of Prometheus."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from api.call import Call
from api.http import Reply, Routes
from api.state import State, reachable
from shared.clock import now_ms
from shared.directory import Router
from shared.errors import QueueUnavailableError
from shared.jobs.schemas import BANDS
from shared.metrics import Metric, Series, read_metrics
from shared.provider_health import ProviderState, read_states
from shared.queue.jobs import QueueStats
from shared.webhooks.queries import count_disabled

log = structlog.get_logger()
routes = Routes("Monitoring")
_PREFIX: Final = "sluice_"
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


@routes.get("/metrics", right="read_metric", raises=(QueueUnavailableError,), media_type="text/plain")
async def get_metrics(call: Call) -> Reply[str]:
    """Get counters and histograms of all api and worker processes, and how queues, providers and webhooks are now."""
    state = call.state
    routers = list(state.directory.routers())
    providers = [provider.id for router in routers for provider in router.providers]
    shards = reachable(state)
    try:
        counted = list(await read_metrics({str(one.shard): one.redis for one in shards}))
        lanes = {
            (str(one.shard), lane): await queue.stats()
            for one in shards
            for lane, queue in (("inference", one.queue), ("platform", one.platform))
        }
        states = await read_states([one.redis for one in shards], providers)
    except (RedisError, OSError) as error:
        raise QueueUnavailableError from error
    families = [*map(_to_family, counted), *_queues(lanes), *_providers(routers, states), _shards(state)]
    families += await _webhooks(state)
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
    labels = ("shard", *metric.labels)
    if metric.buckets:
        histogram = HistogramMetricFamily(_PREFIX + metric.name, metric.text, labels=labels)
        for one in series:
            histogram.add_metric(one.labels, one.buckets, one.sum)
        return histogram
    family = GaugeMetricFamily if metric.is_gauge else CounterMetricFamily
    single: CounterMetricFamily | GaugeMetricFamily = family(_PREFIX + metric.name, metric.text, labels=labels)
    for one in series:
        single.add_metric(one.labels, one.sum)
    return single


def _shards(state: State) -> Family:
    up = _gauge("shard_up", "Whether the Redis of a shard answers.", "shard")
    for one in state.shards:
        up.add_metric((str(one.shard),), float(one.inbox.is_connected))
    return up


async def _webhooks(state: State) -> list[Family]:
    """Return what rests in the database; nothing while that is away, which must not hide the other figures."""
    endpoints = _gauge("webhook_endpoints_disabled", "Webhook endpoints to which nothing is sent.", "cause")
    paused = _gauge("webhook_deliveries_paused", "Deliveries that are kept for disabled endpoints.", "cause")
    try:
        async with state.database.read() as session:
            found = await count_disabled(session)
    except (SQLAlchemyError, OSError) as error:
        log.warning("webhooks_not_told", error=repr(error))
        return []
    for cause, (is_disabled, is_paused) in found.items():
        endpoints.add_metric((cause,), is_disabled)
        paused.add_metric((cause,), is_paused)
    return [endpoints, paused]


def _queues(lanes: dict[tuple[str, str], QueueStats]) -> Iterator[Family]:
    labels = ("shard", "lane", "band")
    ready = _gauge("queue_ready", "Jobs that could start now.", *labels)
    parked = _gauge("queue_parked", "Jobs that wait since their router has its share of the slots.", *labels)
    oldest = _gauge("queue_oldest_seconds", "Wait of the first job; `due`: of retries and delayed jobs.", *labels)
    text = "Other jobs: due (retries and delayed ones), held (running or not due)."
    others = _gauge("queue_jobs", text, "shard", "lane", "state")
    for of, stats in lanes.items():
        for band, is_ready, is_parked, wait_s in zip(BANDS, stats.ready, stats.parked, stats.oldest_s, strict=True):
            ready.add_metric((*of, band), is_ready)
            parked.add_metric((*of, band), is_parked)
            oldest.add_metric((*of, band), wait_s)
        oldest.add_metric((*of, "due"), stats.oldest_due_s)
        others.add_metric((*of, "due"), stats.due)
        others.add_metric((*of, "held"), stats.held)
    yield from (ready, parked, oldest, others)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, labels=labels)


def _providers(routers: Iterable[Router], states: dict[int, ProviderState]) -> Iterator[Family]:
    info = _gauge("provider_info", "Always 1: what the number of a provider stands for.", "provider", "router", "model")
    is_open = _gauge("provider_breaker_open", "1 while nothing is sent to the provider.", "provider")
    failures = _gauge("provider_failures", "Failures in a row.", "provider")
    limit = _gauge("provider_in_flight_limit", "Most attempts at once, where there is such a limit.", "provider")
    for router in routers:
        for one in router.providers:
            number, state = str(one.id), states[one.id]
            info.add_metric((number, router.name, one.model_name), 1)
            is_open.add_metric((number,), float(state.opens_ms > now_ms()))
            failures.add_metric((number,), state.failures)
            if one.most_attempts is not None:
                limit.add_metric((number,), one.most_attempts)
    yield from (info, is_open, failures, limit)
