"""What a running job sends back.

Two ways, written in one pipeline: the **inbox** of the api process whose caller waits (one stream per process, one
blocking read for all its callers), and, for jobs that run as streams, the **reply stream** of the job, which anybody
may follow and resume from any entry.  Both may be lost with Redis: the database has the same after the end of the job.

entries.py  what an entry is, and its id
writer.py   (worker) writes both
inbox.py    (api) reads the inbox of this process
reader.py   (api) follows reply streams
frames.py   the log of a streamed reply, as the database keeps it
"""
