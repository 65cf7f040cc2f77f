"""The queue: one sorted set per lane, shared with stock arq, moved only by the scripts in this folder.

keys.py       names of the keys and the layout of the sorted set: read this first
scripts/      the only code that moves a job; each states the invariant it keeps
lua.py        the scripts bound to one Redis and one lane
jobs.py       what goes in and what comes out
job_queue.py  put jobs in, end them, look at the lane
lanes.py      the lanes
connections.py  the connections to Redis
"""
