"""The ACL rules that one configuration needs: `runtime acl` prints them for an operator to set."""

from __future__ import annotations

from runtime.redis.permissions import (
    PUBSUB_MANAGER,
    PUBSUB_MANAGER_OF_SENTINELS,
    acl_rules,
    sentinel_rules,
)
from runtime.redis.urls import RedisUrl, parse_redis_url
from runtime.settings import Settings, SettingsError

NODES, SENTINELS = "nodes", "sentinels"
NAMES = {NODES: "app", SENTINELS: "watcher"}  # of users, where the configuration names none


def rules_of(settings: Settings) -> dict[str, list[str]]:
    """Return the rules of the user on the data nodes and, with Sentinel, on the sentinels.

    Raises SettingsError without Redis.
    """
    url = _url(settings)
    stock = settings.manager == "redis-pubsub"
    found = {NODES: acl_rules(settings.redis_key_prefix, _mode(settings), url.db)}
    found[NODES] += PUBSUB_MANAGER if stock else []
    if settings.sentinels:
        found[SENTINELS] = sentinel_rules() + (PUBSUB_MANAGER_OF_SENTINELS if stock else [])
    return found


def commands(settings: Settings) -> list[str]:
    """Return one `ACL SETUSER` for each kind of server; the password is left to the operator."""
    users = {NODES: _url(settings).username, SENTINELS: settings.redis_sentinel_username}
    return [
        f"ACL SETUSER {users[servers] or NAMES[servers]} on >PASSWORD {' '.join(rules)}"
        for servers, rules in rules_of(settings).items()
    ]


def _url(settings: Settings) -> RedisUrl:
    if not settings.redis_url:
        raise SettingsError("REDIS_URL: is not set; without Redis there are no rules to print")
    return parse_redis_url(settings.redis_url)


def _mode(settings: Settings) -> str:
    if settings.sentinels:
        return "sentinel"
    return "cluster" if settings.redis_cluster else "standalone"
