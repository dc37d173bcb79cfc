"""Every environment variable, parsed and validated once."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.telemetry.options import TelemetryOptions, parse_source_levels

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
LONGEST_TIMEOUT_S = 300
HIDDEN_NAMES = ("SECRET", "PASSWORD", "KEY", "URL", "TOKEN", "HEADERS")


class SettingsError(Exception):
    """One message per wrong variable, one a line."""


def _text(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _none_if_empty(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _seconds(value: Any) -> Any:
    """Refuse what can only be milliseconds."""
    value = _none_if_empty(value)
    if value is not None and float(value) > LONGEST_TIMEOUT_S:
        raise ValueError(f"is in seconds; {value} can only be milliseconds: divide it by 1000")
    return value


def parse_duration(text: str) -> int | None:
    """Return seconds of `4w`, `7d`, `24h`, `90m`, `30s` (also in sequence); None for `-1`."""
    text = text.strip()
    if text == "-1":
        return None
    if not re.fullmatch(r"(\d+[smhdw])+", text) or not re.search(r"[1-9]", text):
        raise ValueError(f"`{text}` is no duration; write 4w, 7d, 24h, or -1 for never")
    return sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+)([smhdw])", text))


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    """Read a duration that has to end."""
    seconds = _duration(value)
    if seconds is None:
        raise ValueError("must end; write 30d, 12h or the like")
    return seconds


def parse_hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    """Return (host, port) of `a,b:26380,[::1]:26381`; blanks are dropped."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+)|([0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[^\]]*))"
                             r"(?::(\d+))?", entry)  # fmt: skip
        if not match:
            raise ValueError(f"`{entry}` is no host; write host, host:port or [ipv6]:port")
        host = match[1] or match[2] or match[3]
        port = int(match[4] or default_port)
        if not 1 <= port <= 65535:
            raise ValueError(f"`{entry}`: {port} is no port; ports go from 1 to 65535")
        found.append((host, port))
    return tuple(found)


def _options(value: Any) -> Any:
    value = _none_if_empty(value)
    if not isinstance(value, str):
        return value or {}
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise ValueError(f"is no JSON object ({error})") from None
    if not isinstance(parsed, dict):
        raise ValueError('must be a JSON object, as {"socket_timeout": 1}')
    return parsed


def _names(*names: str) -> Any:
    return AliasChoices(*names)


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
OptionalSeconds = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_seconds)]
Text = Annotated[str, BeforeValidator(_text)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
Port = Annotated[int, Field(ge=1, le=65535)]
OptionalPort = Annotated[Port | None, BeforeValidator(_none_if_empty)]
Heartbeat = Annotated[int, Field(ge=5, le=90)]
OptionalBool = Annotated[bool | None, BeforeValidator(_none_if_empty)]
RedisDelay = Annotated[
    Annotated[float, Field(ge=0, le=10_000)] | None, BeforeValidator(_none_if_empty)
]  # fmt: skip
SameSite = Literal["lax", "strict", "none"]
Manager = Literal["redis", "redis-pubsub", ""]


class SocketRedisOptions(BaseModel):
    """WEBSOCKET_REDIS_OPTIONS: what the sockets' connections do otherwise than the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    socket_timeout: OptionalSeconds = None
    socket_connect_timeout: OptionalSeconds = None
    socket_keepalive: bool | None = None
    health_check_interval: OptionalSeconds = None
    max_connections: Annotated[int, Field(ge=2)] | None = None


class Settings(TelemetryOptions, BaseSettings):
    """The configuration of one worker. Field names are the variables in lower case."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - given by pydantic
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by pydantic
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by pydantic
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by pydantic
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read only what load_settings hands over: tests and workers pass their own environment."""
        return (init_settings,)

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_prefix="", enable_decoding=False, populate_by_name=True
    )

    redis_url: Text = ""
    redis_cluster: bool = Field(
        False, validation_alias=_names("redis_cluster", "redis_cluster_mode")
    )
    redis_key_prefix: Annotated[str, BeforeValidator(_text), Field(min_length=1)] = "open-webui"
    redis_sentinel_hosts: Text = ""
    redis_sentinel_port: Port = 26379
    redis_sentinel_username: OptionalText = None
    redis_sentinel_password: OptionalText = None
    redis_sentinel_max_retry_count: int = Field(2, ge=0, le=100, description="after the first try")
    redis_socket_connect_timeout: Seconds = 0.5
    redis_socket_timeout: Seconds = 1.0
    redis_reconnect_delay: RedisDelay = Field(None, description="milliseconds")
    redis_socket_keepalive: bool = True
    redis_health_check_interval: OptionalSeconds = None
    redis_max_connections: int = Field(16, ge=2)
    redis_task_ttl: int = Field(300, ge=0, description="seconds; 0: for ever")
    redis_response_stream_ttl: int = Field(3600, ge=0, description="seconds; 0: for ever")

    enable_websocket_support: bool = True
    websocket_manager: Manager | None = None
    websocket_redis_url: OptionalText = None
    websocket_redis_cluster: OptionalBool = None
    websocket_redis_options: Annotated[SocketRedisOptions, BeforeValidator(_options)] = (
        SocketRedisOptions()
    )
    websocket_sentinel_hosts: OptionalText = None
    websocket_sentinel_port: OptionalPort = None
    websocket_server_ping_interval: int = Field(25, ge=1)
    websocket_server_ping_timeout: int = Field(20, ge=1)
    websocket_heartbeat_interval: Annotated[
        Heartbeat | None, BeforeValidator(_none_if_empty)
    ] = None  # fmt: skip
    websocket_redis_lock_timeout: Annotated[Seconds, Field(ge=1)] = 10.0
    websocket_event_caller_timeout: Seconds = 60.0
    websocket_max_anonymous: int = Field(1000, ge=1, description="sockets")
    websocket_max_handshakes: int = Field(2, ge=1, description="at once")
    instance_lease: Annotated[Seconds, Field(ge=1)] = 30.0
    websocket_event_log_length: int = Field(50_000, ge=1000, description="entries")

    ydoc_max_documents_per_session: int = Field(20, ge=1)
    ydoc_max_document_bytes: int = Field(2 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    ydoc_document_ttl: int = Field(3600, ge=60, description="seconds")
    ydoc_compact_after: int = Field(200, ge=10, description="updates")

    cors_allow_origin: Text = "*"
    enable_star_sessions_middleware: bool = False
    webui_session_cookie_same_site: SameSite = "lax"
    webui_session_cookie_secure: bool = False
    webui_auth_cookie_same_site: Annotated[
        SameSite | None, BeforeValidator(_none_if_empty)
    ] = None  # fmt: skip
    webui_auth_cookie_secure: OptionalBool = None
    session_lifetime: Annotated[int, BeforeValidator(_finite)] = 30 * UNITS["d"]
    session_rolling: bool = True
    revocation_policy: Literal["closed", "open"] = "closed"
    enable_openapi: bool = True
    jwt_expires_in: Annotated[int | None, BeforeValidator(_duration)] = 4 * UNITS["w"]
    webui_secret_key: str = Field(
        "", validation_alias=_names("webui_secret_key", "webui_jwt_secret_key")
    )
    signin_rate_limit: int = Field(15, ge=1, description="attempts per account and address")
    signin_rate_limit_address: int = Field(
        0, ge=0, description="attempts per address, whatever the account; 0: no such limit"
    )
    signin_rate_limit_window: int = Field(180, ge=1, le=86_400, description="seconds")
    signin_rate_limit_bucket: int = Field(60, ge=1, le=86_400, description="seconds")
    argon2_time_cost: int = Field(3, ge=1)
    argon2_memory_kib: int = Field(65536, ge=64)

    data_dir: Path = Path("data")
    database_url: Text = ""
    uvicorn_workers: int = Field(1, ge=1)
    allow_workers_without_redis: bool = False
    drain_timeout: float = Field(2.0, ge=0, le=3600, description="seconds")
    instance_id: str = Field(default_factory=lambda: str(uuid.uuid4()), min_length=1)
    forwarded_allow_ips: Text = "127.0.0.0/8"
    openai_api_base_url: Text = Field(
        "", validation_alias=_names("openai_api_base_url", "openai_api_base_urls")
    )
    openai_api_key: str = Field("", validation_alias=_names("openai_api_key", "openai_api_keys"))
    enable_openai_api: bool = True
    enable_forward_user_info_headers: bool = False
    models_cache_ttl: float = Field(1.0, ge=0, description="seconds")
    enable_base_models_cache: bool = False
    base_models_cache_ttl: int = Field(300, ge=0, description="seconds; 0: no expiry")
    enable_persistent_config: bool = True
    reset_config_on_start: bool = False
    src_log_levels: Annotated[
        dict[str, str], BeforeValidator(parse_source_levels), BeforeValidator(_options)
    ] = {}  # fmt: skip

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        self._redis_consistent()
        if self.uvicorn_workers > 1 and not (self.redis_url or self.allow_workers_without_redis):
            raise ValueError(
                f"UVICORN_WORKERS={self.uvicorn_workers} needs REDIS_URL: without Redis every "
                "worker has its own sessions, sockets and tasks. Set REDIS_URL, one worker, or "
                "ALLOW_WORKERS_WITHOUT_REDIS=true if a load balancer pins users"
            )
        return self

    def _redis_consistent(self) -> None:
        """Refuse half a configuration: it would connect somewhere else, or nowhere."""
        parse_hosts(self.redis_sentinel_hosts, self.redis_sentinel_port)
        parse_hosts(self.websocket_sentinel_hosts or "", 26379)
        if any(blank in self.redis_key_prefix for blank in " \t\n{}*?[]"):
            raise ValueError("REDIS_KEY_PREFIX may not have blanks or any of {}*?[]")
        if not self.redis_url and self.redis_sentinel_hosts:
            raise ValueError("REDIS_SENTINEL_HOSTS is set but REDIS_URL is not; set REDIS_URL to "
                             "redis://SERVICE:6379/0 with the service's name")  # fmt: skip
        if self.redis_cluster and not self.redis_url:
            raise ValueError("REDIS_CLUSTER is true but REDIS_URL is not set; name cluster nodes")
        if not (self.websocket_redis_url or self.redis_url):
            self._needs_no_redis()
        if self.redis_sentinel_username and not self.redis_sentinel_password:
            raise ValueError("REDIS_SENTINEL_USERNAME is set but REDIS_SENTINEL_PASSWORD is not")
        hosts = self.redis_sentinel_hosts or self.websocket_sentinel_hosts
        if self.redis_sentinel_password and not hosts:
            raise ValueError("REDIS_SENTINEL_PASSWORD is set but REDIS_SENTINEL_HOSTS is not; "
                             "name the sentinels, or unset it")  # fmt: skip

    def _needs_no_redis(self) -> None:
        """Refuse variables that mean nothing without a URL."""
        if self.websocket_manager:
            raise ValueError(f"WEBSOCKET_MANAGER={self.websocket_manager} needs REDIS_URL")
        if self.websocket_sentinel_hosts:
            raise ValueError("WEBSOCKET_SENTINEL_HOSTS is set but neither WEBSOCKET_REDIS_URL nor "
                             "REDIS_URL is; set one to redis://SERVICE:6379/0")  # fmt: skip
        if self.websocket_redis_cluster:
            raise ValueError("WEBSOCKET_REDIS_CLUSTER is true but neither WEBSOCKET_REDIS_URL nor "
                             "REDIS_URL is set; name cluster nodes")  # fmt: skip

    @property
    def manager(self) -> Manager:
        """Socket.IO manager: what was chosen, else `redis` wherever there is a Redis."""
        if self.websocket_manager is not None:
            return self.websocket_manager
        return "redis" if self.redis_url or self.websocket_redis_url else ""

    @property
    def database(self) -> str:
        """Database URL; SQLite in DATA_DIR unless set."""
        return self.database_url or f"sqlite:///{self.data_dir}/runtime.db"

    @property
    def sentinels(self) -> tuple[tuple[str, int], ...]:
        """Addresses of the sentinels, empty outside Sentinel mode."""
        return parse_hosts(self.redis_sentinel_hosts, self.redis_sentinel_port)

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """Allowed origins; `*` allows all."""
        return tuple(o.strip() for o in self.cors_allow_origin.split(";") if o.strip())

    @property
    def provider_urls(self) -> tuple[str, ...]:
        """Base URLs of the OpenAI-compatible providers."""
        urls = re.split(r"[;,]", self.openai_api_base_url)
        return tuple(u.strip().rstrip("/") for u in urls if u.strip())

    @property
    def provider_keys(self) -> tuple[str, ...]:
        """API keys, in the order of the URLs."""
        return tuple(k.strip() for k in re.split(r"[;,]", self.openai_api_key))

    def websocket(self) -> Settings:
        """Return the settings as the sockets' Redis sees them: WEBSOCKET_* over REDIS_*."""
        given = {
            "redis_url": self.websocket_redis_url,
            "redis_cluster": self.websocket_redis_cluster,
            "redis_sentinel_hosts": self.websocket_sentinel_hosts,
            "redis_sentinel_port": self.websocket_sentinel_port,
            **{f"redis_{name}": value for name, value in self.websocket_redis_options},
        }
        return self.model_copy(update={k: v for k, v in given.items() if v is not None})

    @property
    def session_pool_timeout(self) -> float:
        """Seconds after which a socket that nobody renews is forgotten: four heartbeats, ≥ 120."""
        return max(4.0 * (self.websocket_heartbeat_interval or 0), 120.0)

    @property
    def separate_websocket_redis(self) -> bool:
        """Whether the sockets use another Redis than the rest."""
        return self.websocket() != self


def _message(error: dict[str, Any], environ: Mapping[str, str]) -> str:
    """Return one line: the variable, what came, what is expected."""
    text = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return text
    name, *inside = (str(part) for part in error["loc"])
    name = name.upper()
    if inside and error["type"] == "extra_forbidden":
        known = ", ".join(SocketRedisOptions.model_fields)
        return (f"{name}: `{inside[0]}` is not known; known: {known}. Credentials and TLS options "
                "belong into WEBSOCKET_REDIS_URL")  # fmt: skip
    if inside:
        text = f"`{inside[0]}` {text}"
    secret = any(word in name for word in HIDDEN_NAMES)
    came = "" if secret else f"={environ.get(name, error.get('input'))}"
    return f"{name}{came}: {text}"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of an environment; raise SettingsError naming every wrong variable."""
    fields = {}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names = [str(c) for c in alias.choices] if isinstance(alias, AliasChoices) else [name]
        there = [n for n in names if n.upper() in environ]
        given = next((n for n in there if environ[n.upper()].strip()), next(iter(there), None))
        empty_means_unset = name not in ("websocket_manager", "websocket_redis_options")
        if given and not (empty_means_unset and not environ[given.upper()].strip()):
            fields[given] = environ[given.upper()]
    try:
        return Settings.model_validate(fields)
    except ValidationError as error:
        lines = [_message(dict(e), environ) for e in error.errors(include_url=False)]
        raise SettingsError("\n".join(lines)) from None
