"""The workers: take a job from the queue, call a provider, account for it, send the reply.

Down: `engine` claims jobs and keeps their leases → `job_worker` starts a run → `runner` runs attempts → `routing` picks
a provider → `jobs/<kind>` calls it through `providers/<wire format>`.
Back: chunks through `shared.replies` → `metering` prices the attempt → `settle` stores all of it in one transaction →
the reply ends → the engine removes the job from the queue.
"""
