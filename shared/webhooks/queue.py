"""Webhooks in the platform lane.  Only what is due is there; the rest waits in the database."""

from collections.abc import Iterable
from typing import Final

from shared.queue.job_queue import JobQueue
from shared.queue.jobs import NewJob
from shared.webhooks.statements import Delivery

DELIVER_WEBHOOK: Final = "deliver_webhook"
"""The arq function that makes one try."""
MOST_IN_FLIGHT: Final = 10
"""Tries of one endpoint at once."""


def enqueue_deliveries(platform: JobQueue, deliveries: Iterable[Delivery]) -> None:
    """Have these deliveries tried now; whatever does not arrive is left to the reconciler."""
    for delivery in deliveries:
        platform.put(queue_entry(delivery))


def queue_entry(delivery: Delivery) -> NewJob:
    """Return the queue entry of a delivery; its group is the endpoint, so that a slow one takes few slots."""
    return NewJob(
        job_id=delivery.id,
        function=DELIVER_WEBHOOK,
        args=(delivery.id,),
        tenant=f"u{delivery.user_id}",
        group=delivery.endpoint_id,
    )
