"""GET /v1/queue: what waits and what runs."""

from collections import Counter

from redis.exceptions import RedisError

from api.call import Call
from api.http import Routes
from api.state import reachable
from shared.clock import now_ms
from shared.errors import QueueUnavailableError
from shared.jobs.queries import count_unfinished
from shared.jobs.schemas import BANDS, QUEUED, BandDepth, ModelDepth, Queue
from shared.queue.pace import read_pace

routes = Routes("Jobs")


@routes.get("/v1/queue")
async def get_queue(call: Call) -> Queue:
    """Get the number of unfinished jobs by band and by model; of everybody, if the caller is an administrator."""
    caller = call.caller
    async with call.state.database.read() as session:
        groups = await count_unfinished(session, None if caller.is_admin else caller.user_id)
    pace = Counter[int]()
    try:
        for shard in reachable(call.state):
            pace.update(await read_pace(shard.redis))
    except (RedisError, OSError, QueueUnavailableError):
        pace.clear()
    bands, queued, running = Counter[int](), Counter[str](), Counter[str]()
    routers, oldest_ms = dict[str, int](), now_ms()
    for status, band, router_id, name, count, created_ms in groups:
        routers[name] = router_id
        if status == QUEUED:
            bands[band] += count
            queued[name] += count
            oldest_ms = min(oldest_ms, created_ms)
        else:
            running[name] += count
    return Queue(
        depth=queued.total(),
        in_progress=running.total(),
        oldest_queued_seconds=max(now_ms() - oldest_ms, 0) // 1000 if queued else 0,
        bands=[BandDepth(band=band, queued=bands[number]) for number, band in enumerate(BANDS)],
        models=[
            ModelDepth(
                model=name, queued=queued[name], in_progress=running[name],
                started_per_minute=round(pace.get(router_id, 0.0), 1),
            )
            for name, router_id in sorted(routers.items())
        ],
    )  # fmt: skip
