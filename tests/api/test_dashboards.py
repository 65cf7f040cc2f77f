"""deploy/grafana and deploy/prometheus ask for metrics and labels that /metrics really has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.figures import metrics, of
from tests.installation import Installation
from tests.people import add_user, key_of
from tests.receivers import Receiver
from tests.waiting import eventually
from tests.webhooks import add_endpoint, until

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "sluice.json").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
_FIXED = ("lane", "band", "state", "cause")
"""Labels whose values are all told at any time."""

_OF_THE_SCRAPE = {"instance", "pod"}
"""Labels that Prometheus adds."""

Labels = dict[str, dict[str, set[str]]]


@pytest_asyncio.fixture
async def told_labels(told: Installation, receiver: Receiver) -> Labels:
    """What an installation that has done a bit of everything tells: name of a series → label → values."""
    known = await told.add_model(
        "known", model_total_params=70, model_active_params=70, prices=(1, 1), qos_metric="inflight", qos_limit=8
    )
    endpoint = await add_endpoint(told, receiver)
    await told.grant(1, rpm=100)
    me = await key_of(told, (await add_user(told))["id"])
    await told.chat(headers=me)
    await (await told.chat(model="known", stream=True)).read()
    await told.chat(model="known", simulator={"delay_ms": 30_000}, headers={"Prefer": "respond-async"})
    await until(told, endpoint, "delivered")

    async def is_told() -> bool:
        found = await metrics(told)
        runs = of(found, "provider_in_flight", provider=str(known["id"])) == 1
        return runs and all(of(found, name) for name in ("webhook_tries_total", "admissions_total", "charge_total"))

    await eventually(is_told)
    labels: Labels = {}
    for family in text_string_to_metric_families(await (await told.get("/metrics")).text()):
        for sample in family.samples:
            series = labels.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                series.setdefault(name, set()).add(value)
    return labels


def parts(expr: Any) -> list[Any]:
    """Return the expressions that this one is made of."""
    found = [getattr(expr, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    return [one for one in (*found, *getattr(expr, "args", ())) if one is not None]


def selectors(expr: Any) -> Iterator[Any]:
    """Return the vectors that an expression reads."""
    if isinstance(expr, promql.VectorSelector):
        yield expr
    for one in parts(expr):
        yield from selectors(one)


def labels_of(expr: Any, told: Labels) -> set[str]:
    """Return the labels of the result; fails if one is asked for that is not there."""
    if isinstance(expr, promql.VectorSelector):
        return set(told[expr.name])
    inner = [labels_of(one, told) for one in parts(expr)]
    if isinstance(expr, promql.AggregateExpr):
        named = set(expr.modifier.labels) if expr.modifier is not None else set()
        if expr.modifier is not None and expr.modifier.type == promql.AggModifierType.Without:
            assert named <= _OF_THE_SCRAPE, expr.prettify()
            return inner[0]
        assert named <= inner[0] | _OF_THE_SCRAPE, expr.prettify()
        return named
    if isinstance(expr, promql.BinaryExpr) and expr.modifier is not None and expr.modifier.matching is not None:
        assert set(expr.modifier.matching.labels) <= inner[0] & inner[1], expr.prettify()
        added = set(expr.modifier.group_labels or ())
        assert added <= inner[1], expr.prettify()
        return inner[0] | added
    return next(filter(None, inner), set())


def check(text: str, shown: str, told: Labels) -> None:
    """Check one expression, and the labels that the text beside it shows."""
    expr = promql.parse(text.replace("$__rate_interval", "5m"))
    for vector in selectors(expr):
        assert vector.name in told, text
        for matcher in vector.matchers.matchers:
            assert matcher.name in told[vector.name], text
            if matcher.name in _FIXED and matcher.op == promql.MatchOp.Equal:
                assert matcher.value in told[vector.name][matcher.name], text
    assert set(re.findall(r"{{\s*(?:\$labels\.)?(\w+)\s*}}", shown)) <= labels_of(expr, told), (text, shown)


def targets() -> list[tuple[str, str]]:
    """Return expression and legend of everything that the dashboard shows."""
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return [(target["expr"], target["legendFormat"]) for panel in panels for target in panel["targets"]]


async def test_the_dashboard_asks_for_what_is_told_and_shows_all_of_it(told_labels: Labels) -> None:
    for expr, legend in targets():
        check(expr, legend, told_labels)

    asked = " ".join(expr for expr, _ in targets())
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in told_labels if not name.endswith("_created")}
    assert not [name for name in families if name not in asked]


async def test_alerts_ask_for_what_is_told(told_labels: Labels) -> None:
    for rule in ALERTS:
        check(rule["expr"], rule["annotations"]["summary"], told_labels)
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


async def test_what_scales_workers_asks_for_what_is_told(told_labels: Labels) -> None:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "worker" / "worker.yaml").read_text())
    (scaled,) = [one for one in documents if one["kind"] == "ScaledObject"]

    for trigger in scaled["spec"]["triggers"]:
        check(trigger["metadata"]["query"], "", told_labels)


def test_panels_lie_beside_each_other_and_have_one_id_each() -> None:
    panels = DASHBOARD["panels"]
    places = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
