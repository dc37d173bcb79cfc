"""Where an external deployment is, who may sign in, and what may be done to it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from harness.errors import UserError, did_you_mean
from harness.fault_specs import Model, model_at
from harness.targets.base import READY, RESYNC_HINT, SESSION_DATA, STOP_STATES
from harness.vocabulary import check_name
from harness.yaml_text import read_yaml

PASSWORD = "HARNESS_ADMIN_PASSWORD"  # noqa: S105 - the variable's name
CAPABILITIES = (SESSION_DATA, STOP_STATES, RESYNC_HINT, READY)
SCHEMES = {"urls": ("http",), "redis": ("redis", "rediss"), "sentinels": ("redis", "rediss")}
EXAMPLE = {"http": "http://127.0.0.1:8081", "redis": "redis://127.0.0.1:6379"}


class Login(Model):
    """An account that exists."""

    email: str = Field(min_length=1)
    password: str = Field("", repr=False)


class ProxyOf(Model):
    """A proxy of the user's Toxiproxy: between which worker and which node it lies."""

    name: str
    worker: int = Field(ge=0)
    node: str = "redis-0"


class Toxiproxy(Model):
    """The API of a Toxiproxy server, and what its proxies are."""

    url: str
    proxies: tuple[ProxyOf, ...] = Field(min_length=1)


class External(Model):
    """One external deployment. `redis` and `sentinels` are named redis-0, … in their order."""

    urls: tuple[str, ...] = Field(min_length=1)
    admin: Login | None = None
    accounts: tuple[Login, ...] = ()
    provider: str = ""
    model: str = ""
    topology: Literal["standalone", "sentinel", "cluster", ""] = ""
    redis: tuple[str, ...] = ()
    sentinels: tuple[str, ...] = ()
    service: str = "mymaster"
    toxiproxy: Toxiproxy | None = None
    capabilities: tuple[str, ...] | None = None  # None: found by asking
    max_rate: float = Field(0, ge=0)
    allowed: frozenset[str] = frozenset()  # hosts; of --allow-host alone
    without_faults: bool = False  # of --without-faults alone
    source: str = ""  # the words of the command line that say the same

    @field_validator("urls", "redis", "sentinels")
    @classmethod
    def _schemes(cls, urls: tuple[str, ...], info: Any) -> tuple[str, ...]:
        return tuple(_checked(url, SCHEMES[info.field_name]) for url in urls)

    @field_validator("provider")
    @classmethod
    def _one_scheme(cls, url: str) -> str:
        return url and _checked(url, ("http",))

    @field_validator("capabilities")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            check_name(name, CAPABILITIES, "capability")
        return names

    @property
    def chats(self) -> bool:
        """Tell whether chats may be started: somebody said who answers, and so who pays."""
        return bool(self.provider or self.model)

    @property
    def hosts(self) -> list[str]:
        """Return every URL that the run speaks to, or listens on."""
        optional = [self.provider, self.toxiproxy.url if self.toxiproxy else ""]
        return [*self.urls, *self.redis, *self.sentinels, *filter(None, optional)]


def _checked(url: str, schemes: tuple[str, ...]) -> str:
    """Return a URL without its trailing slash; raise ValueError when it is none of these."""
    wanted = f"expected {' or '.join(f'{name}://HOST:PORT' for name in schemes)}"
    example = f"such as {EXAMPLE[schemes[0]]}"
    if "://" not in url:
        raise ValueError(f"{url}: a URL without a scheme; {wanted}, {example}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url}: {error}; {wanted}, {example}") from error
    if parts.scheme == "https":
        raise ValueError(f"{url}: TLS is not spoken here; give the address behind what ends it")
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"{url}: {wanted}, {example}")
    return url.rstrip("/")


@dataclass(frozen=True)
class Flags:
    """What the command line says about an external deployment."""

    external: Path | None = None
    url: tuple[str, ...] = ()
    admin: str | None = None
    accounts: Path | None = None
    redis: tuple[str, ...] = ()
    provider: str | None = None
    model: str | None = None
    allow_host: tuple[str, ...] = ()
    max_rate: float | None = None
    without_faults: bool = False

    @property
    def only_allows(self) -> bool:
        """Tell whether nothing but --allow-host was given."""
        return bool(self.allow_host) and self == Flags(allow_host=self.allow_host)

    @property
    def given(self) -> list[str]:
        """Return the flags that were given, as words of a command line."""
        words: list[str] = []
        for field in fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if value is True:
                words.append(flag)
            elif value:
                for one in value if isinstance(value, tuple) else (value,):
                    words += [flag, f"{one:g}" if isinstance(one, float) else str(one)]
        return words


def describe(flags: Flags, target: str | None) -> External | None:
    """Return what the flags and their file say; None when they say nothing. Raises UserError."""
    if target not in (None, "external"):
        if flags.given:
            raise UserError(f"{flags.given[0]} is for --target external, not for --target {target}")
        return None
    if not flags.given and target is None:
        return None
    data = _file(flags.external) if flags.external else {}
    data |= {
        "urls": flags.url or data.get("urls", ()),
        "redis": flags.redis or data.get("redis", ()),
        "allowed": flags.allow_host,
        "without_faults": flags.without_faults,
        "source": shlex.join(["--target", "external", *flags.given]),
    }
    for name in ("provider", "model", "max_rate"):
        if value := getattr(flags, name):
            data[name] = value
    if not data["urls"]:
        asked = flags.given[0] if flags.given else "--target external"
        raise UserError(
            f"{asked}: where is the external deployment? Give --url http://HOST:PORT for each "
            "worker, or for the balancer, or --external FILE.yaml with `urls:`"
        )
    _credentials(data, flags)
    return _validated(data, flags.external)


def _credentials(data: dict[str, Any], flags: Flags) -> None:
    """Put the accounts into `data`: passwords never come from the command line."""
    if flags.admin:
        data["admin"] = {"email": flags.admin}
    admin = data.get("admin")
    if isinstance(admin, dict) and not admin.get("password"):
        admin["password"] = os.environ.get(PASSWORD, "")
        if not admin["password"]:
            raise UserError(
                f"no password for the admin {admin.get('email')}: put it into the variable "
                f"{PASSWORD}, or into the file of --external"
            )
    if path := flags.accounts or data.get("accounts"):
        data["accounts"] = _list(Path(path)) if not isinstance(path, list) else path
    if not admin and not data.get("accounts"):
        raise UserError(
            "--target external: who may sign in? Give --admin EMAIL (its password in the variable "
            f"{PASSWORD}), who makes accounts and removes them after; or --accounts FILE.yaml, "
            "a list of {email, password}"
        )


def _file(path: Path) -> dict[str, Any]:
    data = _yaml(path, "--external")
    if not isinstance(data, dict):
        raise UserError(f"--external {path}: expected keys such as `urls:`, got {data!r:.80}")
    if own := {"allowed", "without_faults", "source"} & data.keys():
        raise UserError(
            f"--external {path}: `{min(own)}` does not stand in a file: "
            "use the flags --allow-host and --without-faults"
        )
    if isinstance(data.get("accounts"), str):
        data["accounts"] = str(path.parent / data["accounts"])
    return data


def _list(path: Path) -> list[Any]:
    data = _yaml(path, "--accounts")
    if not isinstance(data, list) or not data:
        raise UserError(f"--accounts {path}: expected a list of {{email, password}}")
    return data


def _yaml(path: Path, flag: str) -> Any:
    try:
        return read_yaml(path, "it")[0]
    except UserError as error:
        raise UserError(f"{flag} {error}") from error


def _validated(data: dict[str, Any], path: Path | None) -> External:
    try:
        return External.model_validate(data)
    except ValidationError as error:
        # a misspelt key explains the one that is missing
        problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _keys_at(problem["loc"])
            hint = did_you_mean(str(problem["loc"][-1]), known)
            said = f"unknown key; {hint}known: {', '.join(known)}"
        raise UserError(f"--external {path or ''}: {where}: {said}".replace(" :", ":")) from error


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the file may have where there was another one."""
    parts: dict[str, type[Model]] = {
        "admin": Login,
        "accounts": Login,
        "toxiproxy": Toxiproxy,
        "proxies": ProxyOf,
    }
    fields = model_at(External, parts, location).model_fields
    return [n for n in fields if n not in ("allowed", "without_faults", "source")]
