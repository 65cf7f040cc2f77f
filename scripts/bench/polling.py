"""Polling of a job: `polling`.  One that has not changed is answered with 304; a whole one for comparison."""

import urllib.request

import machine
from chat import gateway_of
from installation import Installation, open_installation
from load import Load
from measure import Row, Setup, measure, summarize

CONNECTIONS = 32
_CHAT = {"model": "simulator", "messages": [{"role": "user", "content": "Hello, who are you?"}], "max_tokens": 64}


def run_polling(database: str, setup: Setup) -> list[Row]:
    """Measure GET /v1/jobs/{id} of a finished job with and without `If-None-Match`."""
    with open_installation(database, setup.postgres) as installation:
        done = installation.ask("POST", "/jobs", _job())["id"]
        installation.ledger.wait_until_done(10)
        loads = [
            _load("polling: unchanged", installation, done, is_known=True),
            _load("polling: whole job", installation, done, is_known=False),
        ]
        gateway = gateway_of(installation)
        rows = []
        for load in loads:
            samples = [measure(gateway, load, setup.effort) for _ in range(setup.rounds)]
            rows.append(summarize(load.name, gateway, samples))
            machine.say(f"{load.name} {database}: {rows[-1]['per_s']}/s")
    return rows


def _job() -> dict[str, object]:
    return {"endpoint": "/v1/chat/completions", "body": _CHAT}


def _load(name: str, installation: Installation, job_id: str, *, is_known: bool) -> Load:
    request = urllib.request.Request(f"{installation.url}/jobs/{job_id}", headers=installation.headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  # loopback
        etag = response.headers["ETag"]
    headers = {"If-None-Match": etag} if is_known else {}
    return Load(
        name=name, body=b"", connections=CONNECTIONS, expected="" if is_known else '"completed"', headers=headers,
        path=f"/jobs/{job_id}", method="GET",
    )  # fmt: skip
