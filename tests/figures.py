"""What /metrics tells."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.installation import Installation


async def metrics(installation: Installation, **options: Any) -> dict[tuple[str, frozenset[Any]], float]:
    """Return name and labels → value."""
    response = await installation.get("/metrics", **options)
    assert response.status == 200, await response.text()
    families = text_string_to_metric_families(await response.text())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def of(found: dict[tuple[str, frozenset[Any]], float], name: str, **labels: str) -> float:
    """Return the sum of the series that have these labels."""
    return sum(
        value for (series, has), value in found.items() if series == f"sluice_{name}" and labels.items() <= set(has)
    )
