"""What other kinds and governance cost beside a chat: `kinds`.  All with the simulator, so only the path differs."""

import json
from statistics import median
from typing import Any

import machine
from chat import gateway_of
from installation import Installation, open_installation
from load import Load
from measure import Row, Setup, measure, summarize

CONNECTIONS = 32
MESSAGES = [{"role": "user", "content": "Hello, who are you and what can you do for me?"}]
CHAT = {"model": "simulator", "messages": MESSAGES, "max_tokens": 64}
EMBEDDING = {"model": "simulator-embedding", "input": "Hello, who are you and what can you do for me?"}
RERANK = {"model": "simulator-rerank", "query": "who are you", "documents": ["I am a server.", "You are a client."]}


def run_kinds(database: str, setup: Setup) -> list[Row]:
    """Measure chat, embeddings, rerank, and the chat of a caller with limits and budgets, in turn."""
    with open_installation(database, setup.postgres) as installation:
        limited = {"Authorization": f"Bearer {_limited_key(installation)}"}
        loads = [
            _load("kinds: chat", CHAT, "/chat/completions", '"content"'),
            _load("kinds: embeddings", EMBEDDING, "/embeddings", '"embedding"'),
            _load("kinds: rerank", RERANK, "/rerank", '"relevance_score"'),
            _load("kinds: chat, limits and budgets", CHAT, "/chat/completions", '"content"', limited),
        ]
        gateway = gateway_of(installation)
        samples: dict[str, list[Any]] = {load.name: [] for load in loads}
        for _ in range(setup.rounds):
            for load in loads:
                samples[load.name].append(measure(gateway, load, setup.effort))
                machine.say(f"{load.name} {database}: {_rate(samples[load.name][-1]):.0f}/s")
        installation.ledger.check()
    rows = [summarize(name, gateway, found) for name, found in samples.items()]
    chat = samples["kinds: chat"]
    for row, found in zip(rows, samples.values(), strict=True):
        ratios = [_rate(one) / _rate(beside) for one, beside in zip(found, chat, strict=True)]
        row["of_chat"] = round(median(ratios), 2)
    return rows


def _load(name: str, body: dict[str, Any], path: str, expected: str, headers: dict[str, str] | None = None) -> Load:
    return Load(
        name=name, body=json.dumps(body).encode(), connections=CONNECTIONS, expected=expected, path=path,
        headers=headers or {},
    )  # fmt: skip


def _rate(sample: Any) -> float:
    return float(sample.result.requests / sample.result.seconds)


def _limited_key(installation: Installation) -> str:
    """Return the key of a user whose limits and budgets are wide enough for any benchmark."""
    wide = 10**9
    limits = [{"router": 1, "type": kind, "value": wide} for kind in ("rpm", "rpd", "tpm", "tpd")]
    installation.ask("PATCH", "/admin/routers/1", {"cost_completion_tokens": 0.000001})
    role = installation.ask("POST", "/admin/roles", {"name": "limited", "limits": limits})
    user = {"email": "limited@example.com", "password": "correct horse battery", "role": role["id"]}
    budgets = {"budget": wide, "carbon_budget": wide}
    user_id = installation.ask("POST", "/admin/users", user | budgets)["id"]
    return str(installation.ask("POST", "/admin/tokens", {"name": "bench", "user": user_id})["key"])
