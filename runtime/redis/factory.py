"""Settings → topology: the one place that knows all three kinds."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from runtime.redis.cluster import Cluster
from runtime.redis.sentinel import Sentinel
from runtime.redis.topology import Standalone, Topology
from runtime.redis.urls import RedisUrl, parse_redis_url
from runtime.redis.wire import Dial
from runtime.settings import Settings, SettingsError


def topology_from(settings: Settings, variable: str = "REDIS_URL") -> Topology | None:
    """Return the topology that the settings describe, None without Redis.

    Sentinels win over the cluster flag. Opens no connection. Raises SettingsError, which names
    `variable` as the one that the URL came from.
    """
    if not settings.redis_url:
        return None
    url = parse_redis_url(settings.redis_url, variable)
    dial = _dial(settings, url)
    if settings.sentinels:
        service = _service(url, variable)
        return Sentinel(service, settings.sentinels, dial, _dial_sentinels(settings, dial))
    if not url.hosts:
        raise SettingsError(f"{variable} names no host; write redis://host:port/db")
    if settings.redis_cluster:
        if url.db:
            raise SettingsError(f"{variable} asks for database {url.db}; a cluster has only 0")
        return Cluster(url.hosts, dial)
    if len(url.hosts) > 1:
        raise SettingsError(
            f"{variable} names {len(url.hosts)} hosts, which only a cluster has; set "
            "REDIS_CLUSTER=true, or name one host"
        )
    return Standalone(url.hosts[0], dial)


def _service(url: RedisUrl, variable: str) -> str:
    """Return the name that the sentinels know the primary by."""
    names = [host for host, _ in url.hosts] or ["mymaster"]
    if len(names) > 1 or names[0] == "localhost" or _is_address(names[0]):
        raise SettingsError(
            f"{variable} names {', '.join(names)}, but sentinels are set: then the host is the "
            "name of the service that they watch, as in redis://mymaster:6379/0. For a Redis "
            "without Sentinel unset REDIS_SENTINEL_HOSTS"
        )
    return names[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _dial(settings: Settings, url: RedisUrl) -> Dial:
    delay = settings.redis_reconnect_delay
    return Dial(
        username=url.username,
        password=url.password,
        db=url.db,
        tls=url.tls,
        connect_timeout=settings.redis_socket_connect_timeout,
        timeout=settings.redis_socket_timeout,
        keepalive=settings.redis_socket_keepalive,
        health_check=settings.redis_health_check_interval,
        reconnect_delay=None if delay is None else delay / 1000,
        instance=settings.instance_id,
    )


def _dial_sentinels(settings: Settings, dial: Dial) -> Dial:
    """Sentinels have no databases, and credentials of their own; TLS is that of the URL."""
    return replace(
        dial,
        db=0,
        username=settings.redis_sentinel_username,
        password=settings.redis_sentinel_password,
    )
