"""The variables of telemetry: the OTEL_* family as Open WebUI and the standard name it."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, field_validator
from pydantic import model_validator as model_check

Signal = Literal["traces", "metrics", "logs"]
Transport = Literal["grpc", "http"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
DEFAULT_ENDPOINTS = {"grpc": "http://localhost:4317", "http": "http://localhost:4318"}
RATIO_SAMPLERS = ("traceidratio", "parentbased_traceidratio")
SHORTEST_TOKEN = 16

# what Open WebUI calls a source, and the logger that it is here
SOURCES = {
    "MAIN": "runtime",
    "AUTH": "runtime.accounts.tokens",
    "CONFIG": "runtime.config.store",
    "DB": "runtime.storage.database",
    "MODELS": "runtime.models.cache",
    "OPENAI": "runtime.models.provider",
    "REDIS": "runtime.redis",
    "SOCKET": "runtime.realtime",
    "TASKS": "runtime.tasks.registry",
    "TELEMETRY": "runtime.telemetry",
}
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _transport(value: Any) -> Any:
    """Take the standard's spelling too."""
    value = _lower(value)
    return "http" if value in ("http/protobuf", "http") else value


Exporter = Annotated[Transport | None, BeforeValidator(_transport)]
Sampler = Annotated[
    Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ],
    BeforeValidator(_lower),
]


def _either(*names: str) -> Any:
    return Field(None, validation_alias=AliasChoices(*names))


def parse_pairs(text: str) -> dict[str, str]:
    """Return the pairs of `a=b,c=d`; raise ValueError for anything else."""
    pairs = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = part.partition("=")
        if not name.strip() or not equals:
            raise ValueError("must be pairs, as name=value,name=value")
        pairs[name.strip()] = value.strip()
    return pairs


class TelemetryOptions(BaseModel):
    """Part of `runtime.settings.Settings`. Field names are the variables in lower case."""

    enable_otel: bool = False
    enable_otel_traces: bool | None = None
    enable_otel_metrics: bool = False
    enable_otel_logs: bool = False
    otel_service_name: str = Field("open-webui", min_length=1)
    otel_resource_attributes: str = ""
    otel_exporter_otlp_endpoint: str | None = None
    otel_traces_exporter_otlp_endpoint: str | None = _either(
        "otel_traces_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint"
    )
    otel_metrics_exporter_otlp_endpoint: str | None = _either(
        "otel_metrics_exporter_otlp_endpoint", "otel_exporter_otlp_metrics_endpoint"
    )
    otel_logs_exporter_otlp_endpoint: str | None = _either(
        "otel_logs_exporter_otlp_endpoint", "otel_exporter_otlp_logs_endpoint"
    )
    otel_otlp_span_exporter: Exporter = _either(
        "otel_otlp_span_exporter", "otel_exporter_otlp_protocol"
    )
    otel_metrics_otlp_span_exporter: Exporter = _either(
        "otel_metrics_otlp_span_exporter", "otel_exporter_otlp_metrics_protocol"
    )
    otel_logs_otlp_span_exporter: Exporter = _either(
        "otel_logs_otlp_span_exporter", "otel_exporter_otlp_logs_protocol"
    )
    otel_exporter_otlp_insecure: bool = False
    otel_metrics_exporter_otlp_insecure: bool | None = None
    otel_logs_exporter_otlp_insecure: bool | None = None
    otel_exporter_otlp_headers: str = ""
    otel_basic_auth_username: str = ""
    otel_basic_auth_password: str = ""
    otel_metrics_basic_auth_username: str = ""
    otel_metrics_basic_auth_password: str = ""
    otel_logs_basic_auth_username: str = ""
    otel_logs_basic_auth_password: str = ""
    otel_traces_sampler: Sampler = "parentbased_always_on"
    otel_traces_sampler_arg: float | None = Field(None, ge=0, le=1)
    otel_metrics_exporter: Annotated[
        Literal["otlp", "prometheus", "none"], BeforeValidator(_lower)
    ] = "otlp"
    otel_metrics_export_interval_millis: int = Field(
        10_000,
        ge=100,
        validation_alias=AliasChoices(
            "otel_metrics_export_interval_millis", "otel_metric_export_interval"
        ),
    )
    otel_instrumentation: Annotated[Literal["light", "stock"], BeforeValidator(_lower)] = "light"

    metrics_access: Annotated[Literal["admin", "open", "off"], BeforeValidator(_lower)] = "admin"
    metrics_token: str = Field("", description="for a scraper's Authorization: Bearer header")
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = "text"
    global_log_level: Annotated[
        Level, BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)
    ] = "INFO"

    @field_validator("otel_resource_attributes", "otel_exporter_otlp_headers")
    @classmethod
    def _pairs(cls, text: str) -> str:
        parse_pairs(text)
        return text

    @field_validator("metrics_token")
    @classmethod
    def _long_enough(cls, text: str) -> str:
        if text and len(text) < SHORTEST_TOKEN:
            raise ValueError(f"is shorter than {SHORTEST_TOKEN} characters; take a random text")
        return text

    @model_check(mode="after")
    def _telemetry_consistent(self) -> TelemetryOptions:
        if not self.enable_otel:
            return self
        signals: tuple[Signal, ...] = ("traces", "metrics", "logs")
        for signal in signals:
            _check_endpoint(self, signal)
            user, password = self.otlp_credentials(signal)
            if bool(user) != bool(password):
                raise ValueError(
                    f"OTLP {signal}: user name and password of basic auth must be set both"
                )
        return self

    def sends(self, signal: Signal) -> bool:
        """Whether a signal leaves by OTLP. Traces do with ENABLE_OTEL alone."""
        if not self.enable_otel:
            return False
        if signal == "metrics":
            return self.enable_otel_metrics and self.otel_metrics_exporter == "otlp"
        return self.enable_otel_logs if signal == "logs" else self.enable_otel_traces is not False

    def otlp_transport(self, signal: Signal) -> Transport:
        """Return grpc or http; metrics and logs inherit from traces."""
        own = getattr(self, f"otel_{signal}_otlp_span_exporter", None)
        return own or self.otel_otlp_span_exporter or "grpc"

    def otlp_endpoint(self, signal: Signal) -> str:
        """Return where a signal goes; over http with its path, which the exporter needs."""
        transport = self.otlp_transport(signal)
        own = getattr(self, f"otel_{signal}_exporter_otlp_endpoint")
        endpoint = str(own or self.otel_exporter_otlp_endpoint or DEFAULT_ENDPOINTS[transport])
        path = f"/v1/{signal}"
        if transport == "grpc" or endpoint.rstrip("/").endswith(path):
            return endpoint
        return endpoint.rstrip("/") + path

    def otlp_insecure(self, signal: Signal) -> bool:
        """Whether grpc goes without TLS: the scheme says it, the setting where there is none."""
        scheme = urlsplit(self.otlp_endpoint(signal)).scheme
        if scheme in ("http", "https"):
            return scheme == "http"
        own = getattr(self, f"otel_{signal}_exporter_otlp_insecure", None)
        return self.otel_exporter_otlp_insecure if own is None else bool(own)

    def otlp_credentials(self, signal: Signal) -> tuple[str, str]:
        """Return user name and password; metrics and logs inherit from traces."""
        user = getattr(self, f"otel_{signal}_basic_auth_username", "")
        password = getattr(self, f"otel_{signal}_basic_auth_password", "")
        if user or password:
            return user, password
        return self.otel_basic_auth_username, self.otel_basic_auth_password


def _check_endpoint(options: TelemetryOptions, signal: Signal) -> None:
    endpoint = options.otlp_endpoint(signal)
    url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    bare = url.scheme == "" and options.otlp_transport(signal) == "grpc"
    if not (bare or url.scheme in ("http", "https")) or not url.hostname:
        raise ValueError(
            f"OTLP {signal}: the endpoint must be http://host:port or https://host:port"
        )
    if url.username or url.password:
        raise ValueError(f"OTLP {signal}: write credentials into OTEL_BASIC_AUTH_*, not the URL")


def parse_source_levels(value: Any) -> Any:
    """Return logger name → level of a JSON object of sources or logger names."""
    if not isinstance(value, dict):
        return value
    levels = {}
    for source, level in value.items():
        name = SOURCES.get(str(source).upper(), str(source))
        if name == source and "." not in source and not source.islower():
            raise ValueError(f"`{source}` is no source; known are {', '.join(SOURCES)}")
        if str(level).upper() not in LEVELS:
            raise ValueError(f"`{source}`: `{level}` is no level; known are {', '.join(LEVELS)}")
        levels[name] = str(level).upper()
    return levels
