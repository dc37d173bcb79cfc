"""What can be configured at run time: names, types, defaults. Nothing else is stored or taken."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from runtime.settings import UNITS, Settings, parse_duration

LARGEST_VALUE = 1 << 20


class ConfigError(ValueError):
    """A change that cannot be taken: which key, what came, what is expected."""


class ProviderOptions(BaseModel):
    """How one provider's models are listed."""

    model_config = ConfigDict(extra="allow")  # clients keep more in it

    enable: StrictBool = True
    model_ids: list[StrictStr] = []
    prefix_id: StrictStr | None = None
    tags: list[Any] = []
    connection_type: StrictStr = "external"


def _duration(text: str) -> str:
    parse_duration(text)
    return text.strip()


def _http_url(text: str) -> str:
    """Return a base URL without its last slash."""
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    return text.strip().rstrip("/")


def _stored(key: str, value: Any) -> Any:
    """Return the value as JSON gives it back; raise ConfigError when it cannot be stored."""
    try:
        text = orjson.dumps(value)
    except TypeError as error:  # nested too deeply
        raise ConfigError(f"`{key}`: {error}") from None
    if len(text) > LARGEST_VALUE:
        raise ConfigError(f"`{key}`: is longer than {LARGEST_VALUE} bytes")
    return orjson.loads(text)


Duration = Annotated[StrictStr, AfterValidator(_duration)]
Urls = list[Annotated[StrictStr, AfterValidator(_http_url)]]
Secrets = list[Annotated[StrictStr, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]]  # sent in a header
Names = Annotated[list[StrictStr], Field(max_length=10_000)]


@dataclass(frozen=True)
class Item:
    """One key. `secret` values are kept in the database only, never in Redis."""

    key: str
    kind: TypeAdapter[Any]
    secret: bool = False


JWT_EXPIRY = "auth.jwt_expiry"
BASE_MODELS_CACHE = "models.base_models_cache"
MODELS_REFRESHED = "models.refreshed"
DEFAULT_MODELS = "ui.default_models"
PINNED_MODELS = "ui.default_pinned_models"
MODEL_ORDER = "ui.model_order_list"
DIRECT_CONNECTIONS = "direct.enable"
OPENAI_ENABLED = "openai.enable"
OPENAI_URLS = "openai.api_base_urls"
OPENAI_KEYS = "openai.api_keys"
OPENAI_OPTIONS = "openai.api_configs"
PROVIDER_KEYS = (OPENAI_ENABLED, OPENAI_URLS, OPENAI_KEYS, OPENAI_OPTIONS)

ITEMS = {
    item.key: item
    for item in (
        Item(JWT_EXPIRY, TypeAdapter(Duration)),
        Item(BASE_MODELS_CACHE, TypeAdapter(StrictBool)),
        Item(MODELS_REFRESHED, TypeAdapter(StrictInt)),
        Item(DEFAULT_MODELS, TypeAdapter(StrictStr | None)),
        Item(PINNED_MODELS, TypeAdapter(StrictStr | None)),
        Item(MODEL_ORDER, TypeAdapter(Names)),
        Item(DIRECT_CONNECTIONS, TypeAdapter(StrictBool)),
        Item(OPENAI_ENABLED, TypeAdapter(StrictBool)),
        Item(OPENAI_URLS, TypeAdapter(Urls)),
        Item(OPENAI_KEYS, TypeAdapter(Secrets), secret=True),
        Item(OPENAI_OPTIONS, TypeAdapter(dict[str, ProviderOptions])),
    )
}


def defaults_of(settings: Settings) -> dict[str, Any]:
    """Return the value of every key as the environment has it."""
    return {
        JWT_EXPIRY: duration_text(settings.jwt_expires_in),
        BASE_MODELS_CACHE: settings.enable_base_models_cache,
        MODELS_REFRESHED: 0,
        DEFAULT_MODELS: None,
        PINNED_MODELS: None,
        MODEL_ORDER: [],
        DIRECT_CONNECTIONS: False,
        OPENAI_ENABLED: settings.enable_openai_api,
        OPENAI_URLS: list(settings.provider_urls),
        OPENAI_KEYS: list(settings.provider_keys),
        OPENAI_OPTIONS: {},
    }


def checked(key: str, value: Any) -> Any:
    """Return the value as it is stored; raise ConfigError."""
    item = ITEMS.get(key)
    if item is None:
        near = difflib.get_close_matches(key, ITEMS, 1)
        hint = f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(ITEMS)}"
        raise ConfigError(f"`{key}` is no configuration key{hint}")
    try:
        return _stored(key, item.kind.dump_python(item.kind.validate_python(value), mode="json"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{part!r}]" for part in first["loc"])
        text = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"`{key}`{place}: {text}") from None


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys for a configuration that may be nested, as older exports are."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        inside = any(key.startswith(f"{prefix}.") for key in ITEMS)
        if prefix not in ITEMS and inside and isinstance(value, Mapping):
            for name, inner in value.items():
                walk(f"{prefix}.{name}", inner)
        else:
            found[prefix] = value

    for name, value in config.items():
        walk(name, value)
    return found


def duration_text(seconds: int | None) -> str:
    """Return `4w`, `90m`, … for seconds, `-1` for None."""
    if seconds is None:
        return "-1"
    unit = max((u for u in UNITS if seconds % UNITS[u] == 0), key=lambda u: UNITS[u])
    return f"{seconds // UNITS[unit]}{unit}"
