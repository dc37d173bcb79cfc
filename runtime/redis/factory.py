"""Settings → topology: the one place that knows all three kinds."""

from __future__ import annotations

from dataclasses import replace

from runtime.redis.cluster import Cluster
from runtime.redis.sentinel import Sentinel
from runtime.redis.topology import Standalone, Topology
from runtime.redis.urls import RedisUrl, parse_redis_url
from runtime.redis.wire import Dial
from runtime.settings import Settings, SettingsError


def topology_from(settings: Settings) -> Topology | None:
    """Return the topology that the settings describe, None without Redis.

    Sentinels win over the cluster flag. No I/O. Raises SettingsError.
    """
    if not settings.redis_url:
        return None
    url = parse_redis_url(settings.redis_url)
    dial = _dial(settings, url)
    if settings.sentinels:
        service = url.hosts[0][0] if url.hosts else "mymaster"
        return Sentinel(service, settings.sentinels, dial, _dial_sentinels(settings, dial))
    if not url.hosts:
        raise SettingsError("REDIS_URL names no host; write redis://host:port/db")
    if not settings.redis_cluster:
        return Standalone(url.hosts[0], dial)
    if url.db:
        raise SettingsError(f"REDIS_URL asks for database {url.db}; a cluster has only 0")
    return Cluster(url.hosts, dial)


def _dial(settings: Settings, url: RedisUrl) -> Dial:
    return Dial(
        username=url.username,
        password=url.password,
        db=url.db,
        tls=url.tls,
        tls_verify=url.tls_verify,
        tls_ca=url.tls_ca,
        connect_timeout=settings.redis_socket_connect_timeout,
        timeout=settings.redis_socket_timeout,
        keepalive=settings.redis_socket_keepalive,
        instance=settings.instance_id,
    )


def _dial_sentinels(settings: Settings, dial: Dial) -> Dial:
    """Sentinels have no databases, and credentials of their own."""
    return replace(
        dial,
        db=0,
        username=settings.redis_sentinel_username,
        password=settings.redis_sentinel_password,
    )
