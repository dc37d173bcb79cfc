"""What the environment files of one deployment's replicas must have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from harness.doctor.findings import Finding
from harness.doctor.variables import Environment

SECRETS = ("WEBUI_SECRET_KEY", "WEBUI_JWT_SECRET_KEY")
REDIS = ("REDIS_URL", "REDIS_SENTINEL_HOSTS", "REDIS_CLUSTER", "WEBSOCKET_REDIS_URL")
PREFIX = ("REDIS_KEY_PREFIX",)
DATABASE = ("DATABASE_URL",)
BEHAVIOUR = (
    *("ENABLE_PERSISTENT_CONFIG", "ENABLE_WEBSOCKET_SUPPORT", "WEBSOCKET_MANAGER"),
    *("ENABLE_STAR_SESSIONS_MIDDLEWARE", "CORS_ALLOW_ORIGIN", "JWT_EXPIRES_IN"),
    *("OPENAI_API_BASE_URL", "OPENAI_API_BASE_URLS", "ENABLE_BASE_MODELS_CACHE"),
)


def compare(environments: Sequence[Environment]) -> Iterator[Finding]:
    """Yield where files differ that must be alike, or are alike where they must differ."""
    for one, other in combinations(environments, 2):
        if _two_installations(one, other):
            yield _prefix_shared(one, other)
        else:
            yield from _differences(one, other)
        yield from _instances(one, other)


def _two_installations(one: Environment, other: Environment) -> bool:
    """Tell whether these are not replicas, but installations that share a Redis."""
    foreign = _differ(SECRETS, one, other) and _differ(DATABASE, one, other)
    redis = _differ(REDIS, one, other) or _differ(PREFIX, one, other)
    return bool(foreign and not redis and one.get("REDIS_URL"))


def _prefix_shared(one: Environment, other: Environment) -> Finding:
    prefix = one.get(*PREFIX) or "open-webui"
    return Finding("prefix-shared", "error", _both(one, other),
                   "two installations write the same keys of one Redis",
                   f"both have REDIS_KEY_PREFIX {prefix} and the same REDIS_URL, and differ in "
                   "secret and database",
                   "configuration, sessions and events of one reach the other",
                   "a REDIS_KEY_PREFIX for each installation")  # fmt: skip


def _differences(one: Environment, other: Environment) -> Iterator[Finding]:
    where = _both(one, other)
    if _differ(SECRETS, one, other):
        yield Finding("secrets-differ", "error", where, "replicas have different secrets",
                      f"WEBUI_SECRET_KEY of {one.name} is not that of {other.name}",
                      "a token of one is refused by the other: users are signed out at random",
                      "the same WEBUI_SECRET_KEY on all")  # fmt: skip
    if names := _differ(PREFIX, one, other):
        yield Finding("prefixes-differ", "error", where, "replicas use different key prefixes",
                      _values(names, one, other),
                      "they share no session, no event and no task",
                      "the same REDIS_KEY_PREFIX on all")  # fmt: skip
    if names := _differ(REDIS, one, other):
        yield Finding("redis-differs", "error", where, "replicas use different Redis servers",
                      f"{', '.join(names)} differ", "they share no session, no event and no task",
                      "the same Redis on all, database number included")  # fmt: skip
    if names := _differ(DATABASE, one, other):
        yield Finding("databases-differ", "error", where, "replicas use different databases",
                      f"{', '.join(names)} differ", "accounts and chats of one are unknown to "
                      "the other", "the same DATABASE_URL on all")  # fmt: skip
    if names := _differ(BEHAVIOUR, one, other):
        yield Finding("settings-differ", "warning", where, "replicas are not set alike",
                      _values(names, one, other),
                      "what a user sees depends on who answers",
                      "the same variables on all")  # fmt: skip


def _instances(one: Environment, other: Environment) -> Iterator[Finding]:
    if (name := one.get("INSTANCE_ID")) and name == other.get("INSTANCE_ID"):
        yield Finding("instance-shared", "error", _both(one, other),
                      "replicas have the same name", f"INSTANCE_ID={name}",
                      "leases and tasks of one are taken for the other's",
                      "an INSTANCE_ID for each, or none")  # fmt: skip


def _differ(names: Sequence[str], one: Environment, other: Environment) -> list[str]:
    """Return which of these variables differ; alternatives of one name count as one."""
    if names == SECRETS:
        return [SECRETS[0]] if one.get(*names) != other.get(*names) else []
    return [name for name in names if one.get(name) != other.get(name)]


def _values(names: Sequence[str], one: Environment, other: Environment) -> str:
    return "; ".join(
        f"{name}: `{one.get(name) or 'unset'}` and `{other.get(name) or 'unset'}`" for name in names
    )


def _both(one: Environment, other: Environment) -> str:
    return f"{one.name} and {other.name}"
