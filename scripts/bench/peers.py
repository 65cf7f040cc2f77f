"""`--peers`: the chats and streams on Sluice and on other gateways in turn, in one run, each on one core.

Peers run as their makers recommend for production, in their fastest honest setting: one process, no database, no cache,
no retries, no request log, no telemetry; LiteLLM checks its master key, Portkey has none to check.  Sluice has
everything on.  Versions are pinned: newer dependencies changed what these do by a factor of three.
"""

import json
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import machine
import uvloop
from chat import LOADS, gateway_of, go_round, rows_of
from http1 import Connection, Response, encode
from installation import open_installation
from load import Load, is_right
from machine import SERVER_CORES, BenchError, free_port
from measure import Gateway, Row, Setup
from upstream import MODEL

# LiteLLM 1.97.0 allows any FastAPI below 1.0 but needs a function that FastAPI dropped in 0.140.7.
LITELLM = ("litellm[proxy]==1.97.0", "fastapi==0.139.2")
# Portkey 1.15.2 allows newer HTTP libraries than it works with: above @hono/node-server 1.14.2 streams answer 500
# (https://github.com/Portkey-AI/gateway/issues/1389).  These are the versions of its own lock file.  It waits 25 ms on
# purpose before the first chunk of every stream: compare stream-32 and CPU rather than stream-1.
PORTKEY = ("@portkey-ai/gateway@1.15.2", "@hono/node-server@1.13.5", "@hono/node-ws@1.2.0", "hono@4.9.7")
_INSTALL_WITHIN_S = 900
_READY_WITHIN_S = 120


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How a gateway is started."""

    name: str
    port: int
    command: Sequence[str]
    headers: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}/v1"


def run_peers(names: Sequence[str], databases: Sequence[str], setup: Setup, folder: Path) -> list[Row]:
    """Install what is missing, start all of them, and measure round by round; only one is loaded at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    url, postgres = setup.upstream_url, setup.postgres
    peers = [litellm(folder, url), portkey(folder, url), passthrough(url)]
    with ExitStack() as stack:
        installations = [
            stack.enter_context(open_installation(database, postgres, upstream_url=url)) for database in databases
        ]
        gateways = [gateway_of(installation) for installation in installations]
        gateways += [stack.enter_context(_running(peer, folder)) for peer in peers]
        for gateway in gateways:
            for name in names:
                check(gateway, LOADS[name])
        others = [postgres.pid] if postgres else []
        samples = go_round(names, [replace(gateway, others=others) for gateway in gateways], setup)
        for installation in installations:
            installation.ledger.check()
    return rows_of(samples)


@contextmanager
def _running(peer: Peer, folder: Path) -> Iterator[Gateway]:
    log = folder / f"{peer.name.partition(' ')[0]}.log"
    log.unlink(missing_ok=True)
    process = machine.start(peer.command, SERVER_CORES, log, peer.environ, folder)
    gateway = Gateway(name=peer.name, url=peer.url, headers=peer.headers, roots=[process.pid])

    def answers() -> bool:
        if process.poll() is not None:
            raise BenchError(f"{peer.name} ended:\n{log.read_text()[-2000:]}")
        return is_right(LOADS["chat-1"], ask(gateway, LOADS["chat-1"]))

    try:
        machine.wait_until(f"{peer.name} answers", answers, _READY_WITHIN_S)
        yield gateway
    finally:
        machine.stop(process, 10)


def check(gateway: Gateway, load: Load) -> None:
    """Raise `BenchError` if the gateway answers this wrongly."""
    answer = ask(gateway, load)
    if not is_right(load, answer):
        raise BenchError(f"{gateway.name} answers {load.name} wrongly: {answer.status} {answer.body[:500]!r}")


def ask(gateway: Gateway, load: Load) -> Response:
    """Ask once; status 0 if there was no answer."""

    async def send() -> Response:
        connection = Connection(gateway.url)
        headers = {"Content-Type": "application/json", **gateway.headers, **load.headers}
        try:
            return await connection.send(encode("POST", gateway.url + load.path, headers, load.body), 30)
        except OSError as error:
            return Response(0, str(error).encode(), 0, None, 0)
        finally:
            connection.close()

    return uvloop.run(send())


def passthrough(upstream_url: str) -> Peer:
    """Return a bare aiohttp proxy: the practical ceiling for a gateway built on aiohttp."""
    port, script = free_port(), Path(__file__).with_name("passthrough.py")
    command = [sys.executable, str(script), str(port), upstream_url.removesuffix("/v1")]
    return Peer(name="aiohttp proxy", port=port, command=command)


def litellm(folder: Path, upstream_url: str) -> Peer:
    """Return LiteLLM's proxy without a database: one worker, key check on, one provider, no retries."""
    home, port, key = folder / "litellm", free_port(), f"sk-{secrets.token_hex(24)}"
    if not _is_installed(home, LITELLM):
        _install_python(home, LITELLM)
    params = {"model": f"openai/{MODEL}", "api_base": upstream_url, "api_key": "x"}
    config = folder / "litellm.yaml"
    settings = {"model_list": [{"model_name": MODEL, "litellm_params": params}], "litellm_settings": {"num_retries": 0}}
    config.write_text(json.dumps(settings))  # JSON is YAML
    logging = folder / "litellm-logging.json"
    logging.write_text(json.dumps({"version": 1, "loggers": {"uvicorn.access": {"level": "WARNING"}}}))
    options = [
        "--config",
        str(config),
        "--log_config",
        str(logging),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    return Peer(
        name=f"LiteLLM {_version(LITELLM)}",
        port=port,
        command=[str(home / "bin" / "litellm"), *options, "--telemetry", "False"],
        headers={"Authorization": f"Bearer {key}"},
        environ={
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
        },
    )


def portkey(folder: Path, upstream_url: str) -> Peer:
    """Return Portkey's gateway: stateless, no key of its own; each request's headers name the provider."""
    home, port = folder / "portkey", free_port()
    if not _is_installed(home, PORTKEY):  # packages come built: install scripts have nothing to do
        _install(["npm", "install", "--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund", *PORTKEY])
        _mark_installed(home, PORTKEY)
    script = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": upstream_url,
        "Authorization": "Bearer x",
    }
    return Peer(
        name=f"Portkey {_version(PORTKEY)}",
        port=port,
        command=["node", str(script), f"--port={port}", "--headless"],
        headers=headers,
        environ={"NODE_ENV": "production"},
    )


def _version(packages: Sequence[str]) -> str:
    return packages[0].rpartition("=")[2].rpartition("@")[2]


def _install_python(home: Path, packages: Sequence[str]) -> None:
    python = str(home / "bin" / "python")
    if shutil.which("uv"):
        _install(["uv", "venv", "--allow-existing", "--python", sys.executable, str(home)])
        _install(["uv", "pip", "install", "--compile-bytecode", "--python", python, *packages])
    else:
        _install([sys.executable, "-m", "venv", str(home)])
        _install([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    _mark_installed(home, packages)


def _is_installed(home: Path, packages: Sequence[str]) -> bool:
    marker = home / "installed"
    return marker.exists() and marker.read_text().split() == list(packages)


def _mark_installed(home: Path, packages: Sequence[str]) -> None:
    (home / "installed").write_text("\n".join(packages) + "\n")


def _install(command: Sequence[str]) -> None:
    machine.say(f"$ {shlex.join(command)}")
    subprocess.run(command, check=True, stdout=sys.stderr, timeout=_INSTALL_WITHIN_S)
