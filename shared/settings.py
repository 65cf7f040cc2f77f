"""Process settings, read once from the environment at start-up.  Units are part of each name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from shared.ssrf import parse_networks

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
DAY_S = 86_400


class SettingsError(Exception):
    """A `SLUICE_*` variable is unknown or has a bad value; the message names it."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All knobs of all processes; a field `redis_url` is set by `SLUICE_REDIS_URL`.  Every one is optional."""

    host: str = "127.0.0.1"
    """Address the api listens on."""
    port: Port = 8080
    """Port the api listens on."""
    data_dir: str = ".sluice"
    """Folder of the SQLite file, the embedded Redis, the generated keys and the lock."""
    admin_key: Annotated[str, Meta(min_length=16)] | None = None
    """The administrator's key; unset: made once and kept in `data_dir/admin_key`."""
    encryption_key: Annotated[str, Meta(min_length=16)] | None = None
    """What keys of providers and webhooks are encrypted with; unset: made once, kept in `data_dir/encryption_key`."""
    previous_encryption_keys: str = ""
    """Comma-separated keys that secrets may still be encrypted with, until `scripts/sluice rotate-key` has run."""
    database_url: str | None = None
    """`postgresql://...` or `sqlite:///path`; unset: `data_dir/sluice.db`."""
    log_database_url: str | None = None
    """A replica of the database, `postgresql://...`, that request logs and usage reports are read from; may lag."""
    redis_url: str | None = None
    """`redis://`, `rediss://` or `unix://`; unset: a private Redis in `data_dir`."""
    shard_redis_urls: str = ""
    """Comma-separated, of further Redis servers: each is a shard of its own for the jobs of its organizations."""
    shard: Annotated[int, Meta(ge=0)] | None = None
    """Whose jobs the workers of this machine run, 0 being `redis_url`; unset: `workers` processes for each shard."""
    file_store_url: str | None = None
    """Where large inputs are kept: `file:///folder` or `s3://bucket/prefix`; unset: `data_dir/files`."""
    api_processes: Count = 1
    """Api processes of this machine; they share the port (SO_REUSEPORT)."""
    workers: Count = 1
    """Worker processes of this machine."""
    worker_slots: Annotated[int, Meta(ge=1, le=1000)] = 256
    """Jobs one worker process runs at the same time."""
    upstream_url: str | None = None
    """An OpenAI-compatible server whose models become routers at start, with or without `/v1`."""
    upstream_key: str | None = None
    """Bearer key sent to `upstream_url`."""
    log_format: Literal["console", "json"] = "console"
    """`console` for people, `json` for machines."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below this level are not written."""
    app_title: str = "Sluice"
    """Name of the installation: `owned_by` of models, title of the reference."""
    disabled_tags: str = ""
    """Tags of the reference, comma-separated, whose operations answer 404."""
    hidden_tags: str = ""
    """Tags whose operations are served but not in the reference."""
    vector_store_model: str | None = None
    """Router of type `text-embeddings-inference` whose vectors searches compare; unset: 403 for what needs it."""
    index_language: Literal["english", "french", "german", "italian", "portuguese", "spanish", "swedish"] = "english"
    """Whose stop words and endings searches by words ignore; chunks keep the one they were indexed with."""
    rag_context_tokens: Count = 2048
    """Passages given to a model at `/v1/chat/completions/RAG`."""
    document_parsing_max_concurrent: Annotated[int, Meta(ge=1, le=1000)] = 10
    """Files that one api or worker process reads at the same time, each in a process of its own."""
    document_parsing_timeout_s: Annotated[int, Meta(ge=1, le=3600)] = 60
    """Longest time to read one file; then 422."""
    document_parsing_memory_bytes: Annotated[int, Meta(ge=256 * 2**20)] = 2 * 2**30
    """Most memory (address space) to read one file with."""
    key_max_expiration_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    """Longest validity of a new key; unset: no maximum."""
    login_key_duration_s: Annotated[int, Meta(ge=1, le=10**9)] = 3600
    """Validity of the key that a login gives out."""
    vultr_defaults: Literal["1.2.0", "1.3.0"] = "1.2.0"
    """Version of Vultr's API whose defaults its dialect has."""
    default_chat_model: str | None = None
    """Model of chats that name none; unset: they are refused."""
    default_embedding_model: str | None = None
    """The same for embeddings."""
    attributes_model: str | None = None
    """Model that scores messages for callers who name none; unset: `default_chat_model`."""
    attributes_context_tokens: Count = 8000
    """Of a conversation whose last message is scored; older messages are left out."""
    searxng_url: str | None = None
    """A SearXNG server that `web_search` asks; unset: the web is not searched."""
    mask_subscription_keys: bool = False
    """Lists of subscriptions do not show their keys."""
    max_body_bytes: Count = 32 * 1024 * 1024
    """Largest request body; above: 413."""
    body_timeout_s: Positive = 60.0
    """A JSON body, or the next piece of a form, must come within this time; then 408."""
    idle_timeout_s: Positive = 75.0
    """A connection on which no whole request begins for this long is closed."""
    trusted_proxies: str = ""
    """Comma-separated networks of proxies whose `X-Forwarded-For` tells where requests come from."""
    cors_origins: str = ""
    """Comma-separated origins whose pages may call the api from a browser, such as `https://app.example`."""
    speech_max_characters: Count = 2000
    """Longest text to speak; above: 422."""
    accept_patience_s: Positive = 0.08
    """A request that the database cannot take for this long is answered with 503."""
    max_queued: Count = 1_000_000
    """Jobs in the queue; above, new ones are answered with 503."""
    max_waiting: Count = 20_000
    """Callers one api process keeps waiting; above, 503."""
    tenant_max_jobs: Count | None = None
    """Unfinished jobs of one organization, or of a user without one; above, 429 `queue_full`.  Unset: no maximum."""
    tenant_max_tokens: Count | None = None
    """The same for the tokens of these jobs: prompts and largest answers."""
    rate_limiting_strategy: Literal["fixed_window", "moving_window", "sliding_window"] = "fixed_window"
    """How requests and tokens per minute and day are counted; the moving window has a resolution of 1/60."""
    assumed_output_tokens: Count = 16_384
    """Longest answer to expect without `max_tokens` and `max_context_length`: so much of a budget is held."""
    redis_lost: Literal["closed", "open"] = "closed"
    """`open`: while Redis is away, asynchronous requests to free models are accepted and counted when they start."""
    accept_backlog: Count = 10_000
    """Jobs one api process accepts so."""
    lease_s: Annotated[float, Meta(ge=1)] = 3.0
    """A job runs elsewhere this long after its worker fell silent; must exceed any stall of the worker's event loop."""
    alive_file: str | None = None
    """A file that a worker touches every two seconds, for probes; unset: none."""
    leave_s: Annotated[float, Meta(ge=0)] = 0.0
    """SIGTERM: the api serves on for this long, but says at /health that it leaves, so that proxies turn to others."""
    drain_s: Positive = 30.0
    """SIGTERM: running jobs may end for this long, the rest goes back to the queue."""
    stream_grace_s: Positive = 30.0
    """A stream job without a reader is cancelled after this time."""
    routing_wait_s: Positive = 9.0
    """Longest time a waiting caller is kept by provider failures before it gets a 503."""
    routing_max_priority: Annotated[int, Meta(ge=0, le=1000)] = 4
    """A user of a higher priority has this one: how far the jobs of one can go ahead of those who wait."""
    job_timeout_s: Annotated[int, Meta(ge=1)] = 600
    """Execution time of a job over all attempts."""
    max_execution_s: Annotated[int, Meta(ge=1)] = 3600
    """Longest execution time a job may ask for."""
    start_timeout_s: Annotated[int, Meta(ge=1, le=7 * DAY_S)] = DAY_S
    """A job that has not started by then is expired."""
    result_ttl_s: Annotated[int, Meta(ge=60)] = 30 * DAY_S
    """Request, result and events are kept this long after the end of a job."""
    unstored_result_ttl_s: Annotated[int, Meta(ge=60)] = 3600
    """The same for requests with `store: false`."""
    tombstone_ttl_s: Annotated[int, Meta(ge=60)] = 90 * DAY_S
    """A removed job answers 410 for this long, then 404."""
    request_log_ttl_s: Annotated[int, Meta(ge=60)] = 30 * DAY_S
    """Rows of the request log are kept this long."""
    webhook_allow_http: bool = False
    """Webhooks may go to `http` URLs, too."""
    webhook_allow_literals: bool = False
    """Webhooks may go to URLs with an IP address instead of a name."""
    webhook_allow_networks: str = ""
    """Comma-separated networks that webhooks may go to although they are not public."""
    webhook_delivery_ttl_s: Annotated[int, Meta(ge=60)] = 30 * DAY_S
    """The log of deliveries is kept this long."""
    public_url: str | None = None
    """Where callers reach the api, for URLs in webhooks; unset: `http://host:port`."""
    vocabulary_dir: str | None = None
    """Folder of vocabularies `<name>.tiktoken`; unset: `data_dir/vocabularies`."""
    batch_max_lines: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000
    """Most requests of one batch."""
    batch_windows: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}[mhd](,[1-9][0-9]{0,4}[mhd])*$")] = (
        "15m,1h,24h,72h,168h"
    )
    """Values of `completion_window`, in minutes, hours or days; `24h` is always one."""
    batch_lines_per_s: Positive = 10.0
    """Lines per second a batch with `start: low_carbon` can count on: decides its latest start."""
    intensity_file: str | None = None
    """CSV of hourly carbon intensities, `zone,start_utc,g_per_kwh`; batches with `start: low_carbon` follow it."""
    attach_keyless_retries: bool = True
    """A stock client that sends a request again gets the answer of its first try, not a second job."""
    redacted_fields: str = ""
    """Comma-separated names of JSON members whose values the request log never shows."""
    keep_alive_s: Positive = 15.0
    """Silence on a stream after which a comment is sent."""
    trace_url: str | None = None
    """Where spans go, OTLP over HTTP: `http://collector:4318/v1/traces`; unset: nothing is traced."""
    trace_headers: str = ""
    """Comma-separated `name=value`: headers for the collector, such as its key."""
    trace_sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Share of the traces that is kept, of those that begin here; a caller's `traceparent` decides for itself."""
    trace_providers: bool = False
    """Calls of providers carry `traceparent`, too, if they are traced."""
    fault_points: bool = False
    """For tests, see `shared.fault_points`."""
    strict: bool = False
    """For tests: an answer that does not fit its declaration fails the request."""

    @property
    def secret_members(self) -> frozenset[str]:
        """Return the names of members that the request log does not show."""
        return frozenset(_listed(self.redacted_fields))

    @property
    def data_path(self) -> Path:
        """Return the data folder, absolute."""
        return Path(self.data_dir).absolute()

    @property
    def vectors_path(self) -> Path:
        """Return the folder of memory-mapped copies of vectors; they can be made again at any time."""
        return self.data_path / "vectors"

    @property
    def redis_socket(self) -> Path:
        """Return the socket of the embedded Redis."""
        return self.data_path / "redis.sock"

    @property
    def vocabulary_path(self) -> Path:
        """Return the folder of the operator's vocabularies, absolute."""
        return self.data_path / "vocabularies" if self.vocabulary_dir is None else Path(self.vocabulary_dir).absolute()

    def effective_database_url(self) -> str:
        """Return the URL of the database in use."""
        return self.database_url or f"sqlite:///{self.data_path / 'sluice.db'}"

    def effective_public_url(self) -> str:
        """Return where callers reach the api, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")

    def effective_redis_url(self) -> str:
        """Return the URL of the Redis in use."""
        return self.redis_url or f"unix://{self.redis_socket}"

    def redis_urls(self) -> list[str]:
        """Return the URL of the Redis of each shard."""
        return [self.effective_redis_url(), *_listed(self.shard_redis_urls)]

    def own_shards(self) -> list[int]:
        """Return the shards that the workers of this machine serve."""
        return list(range(len(self.redis_urls()))) if self.shard is None else [self.shard]


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


_SQLITE = "sqlite:///"
_MAX_SOCKET_BYTES = 107
"""Of a path on Linux."""


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of the `SLUICE_*` variables; raises `SettingsError`.

    A typo must not silently fall back to a default, hence unknown names are refused.  An empty value counts as unset.
    """
    found = {key: value for key, value in environ.items() if key.startswith("SLUICE_") and value != ""}
    known = {f"SLUICE_{name.upper()}": name for name in Settings.__struct_fields__}
    if unknown := sorted(found.keys() - known.keys()):
        raise SettingsError(f"Unknown setting {', '.join(unknown)}. Known are: {', '.join(sorted(known))}.")
    values: dict[str, object] = {}
    for key, value in found.items():
        try:
            field = {known[key]: value}
            values[known[key]] = getattr(msgspec.convert(field, Settings, strict=False), known[key])
        except (msgspec.ValidationError, UnicodeEncodeError) as error:  # a variable may be any bytes
            raise SettingsError(f"{key}: {str(error).partition(' - at')[0]}.") from error
    settings = Settings(**values)  # type: ignore[arg-type]  # each value was converted to the type of its field
    _check_urls(settings)
    if len(set(settings.redis_urls())) < len(settings.redis_urls()):
        raise SettingsError("SLUICE_SHARD_REDIS_URLS: a shard has a Redis of its own, but one is named twice.")
    if (settings.shard or 0) >= len(settings.redis_urls()):
        raise SettingsError(f"SLUICE_SHARD: there are {len(settings.redis_urls())} shards.")
    for name in ("webhook_allow_networks", "trusted_proxies"):
        try:
            parse_networks(getattr(settings, name))
        except ValueError as error:
            raise SettingsError(f"SLUICE_{name.upper()}: {error}.") from error
    return settings


def _check_urls(settings: Settings) -> None:
    schemes = {
        "SLUICE_DATABASE_URL": (settings.database_url, ("sqlite:///", "postgresql://", "postgres://")),
        "SLUICE_LOG_DATABASE_URL": (settings.log_database_url, ("postgresql://", "postgres://")),
        "SLUICE_REDIS_URL": (settings.redis_url, ("redis://", "rediss://", "unix://")),
        "SLUICE_UPSTREAM_URL": (settings.upstream_url, ("http://", "https://")),
        "SLUICE_SEARXNG_URL": (settings.searxng_url, ("http://", "https://")),
        "SLUICE_PUBLIC_URL": (settings.public_url, ("http://", "https://")),
        "SLUICE_TRACE_URL": (settings.trace_url, ("http://", "https://")),
        "SLUICE_FILE_STORE_URL": (settings.file_store_url, ("file:///", "s3://")),
    }
    redis = schemes["SLUICE_REDIS_URL"][1]
    shards = [("SLUICE_SHARD_REDIS_URLS", (url, redis)) for url in _listed(settings.shard_redis_urls)]
    for name, (url, allowed) in (*schemes.items(), *shards):
        if url is None:
            continue
        if not url.startswith(allowed):
            raise SettingsError(f"{name}: the URL must start with {' or '.join(allowed)}.")
        try:
            _ = urlsplit(url).port
        except ValueError as error:
            raise SettingsError(f"{name}: {error}.") from None
    if settings.log_database_url is not None and (settings.database_url or _SQLITE).startswith(_SQLITE):
        raise SettingsError("SLUICE_LOG_DATABASE_URL: only PostgreSQL has replicas, see SLUICE_DATABASE_URL.")
    if settings.redis_url is None and len(str(settings.redis_socket).encode()) > _MAX_SOCKET_BYTES:
        raise SettingsError(f"SLUICE_DATA_DIR: {settings.data_path} is too long for the socket of Redis in it.")
