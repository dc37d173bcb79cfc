"""Settings, URLs and what sentinels and cluster nodes say."""

from __future__ import annotations

import pytest
from redis import exceptions as redis_errors

from runtime.redis.client import key_of
from runtime.redis.cluster import Owner, SlotMap, in_minority, parse_nodes
from runtime.redis.errors import RedisUnavailable, translate
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.redis.sentinel import Answer, decide
from runtime.redis.topology import Standalone
from runtime.redis.urls import parse_redis_url
from runtime.settings import SettingsError, load_settings, parse_duration

OLD, NEW = ("127.0.0.1", 1), ("127.0.0.1", 2)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"REDIS_SOCKET_CONNECT_TIMEOUT": "500"}, ["REDIS_SOCKET_CONNECT_TIMEOUT", "millisec"]),
        ({"WEBSOCKET_MANAGER": "Redis"}, ["WEBSOCKET_MANAGER=Redis", "'redis-pubsub'"]),
        ({"UVICORN_WORKERS": "3"}, ["UVICORN_WORKERS=3", "REDIS_URL"]),
        ({"JWT_EXPIRES_IN": "4 weeks"}, ["JWT_EXPIRES_IN=4 weeks", "4w"]),
        ({"WEBSOCKET_REDIS_OPTIONS": "[1]"}, ["WEBSOCKET_REDIS_OPTIONS=[1]", "JSON object"]),
        ({"REDIS_SENTINEL_HOSTS": "a"}, ["REDIS_URL is not"]),
        ({"REDIS_TASK_TTL": "x", "REDIS_CLUSTER": "maybe"}, ["REDIS_TASK_TTL=x", "REDIS_CLUSTER"]),
    ],
)
def test_wrong_variables_are_named(environ: dict[str, str], words: list[str]) -> None:
    """Each wrong variable has a line with its name, what came, and what to write."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    for word in words:
        assert word in str(caught.value)


def test_secrets_stay_out_of_messages() -> None:
    """A wrong URL is reported without its password."""
    with pytest.raises(SettingsError) as caught:
        topology_from(load_settings({"REDIS_URL": "http://u:hunter2@h"}))
    assert "hunter2" not in str(caught.value)
    assert "redis://" in str(caught.value)


def test_manager_follows_redis() -> None:
    """WEBSOCKET_MANAGER unset means redis wherever REDIS_URL is set; empty means memory."""
    url = {"REDIS_URL": "redis://h"}
    assert load_settings({}).manager == ""
    assert load_settings(url).manager == "redis"
    assert load_settings({**url, "WEBSOCKET_MANAGER": ""}).manager == ""


def test_websocket_variables_inherit() -> None:
    """The sockets use the same sentinels unless told otherwise."""
    base = {"REDIS_URL": "redis://m:6379/0", "REDIS_SENTINEL_HOSTS": "s1,s2:1"}
    settings = load_settings(base)
    assert settings.websocket().sentinels == (("s1", 26379), ("s2", 1))
    assert not settings.separate_websocket_redis
    other = load_settings({**base, "WEBSOCKET_REDIS_URL": "redis://other:6379/0"})
    assert other.separate_websocket_redis
    assert other.websocket().redis_url == "redis://other:6379/0"


def test_prefix_is_never_empty() -> None:
    """Without a prefix, or with an empty one, keys begin with `open-webui`."""
    for environ in ({}, {"REDIS_KEY_PREFIX": ""}, {"REDIS_KEY_PREFIX": "  "}):
        assert load_settings(environ).redis_key_prefix == "open-webui"


def test_durations_are_strict() -> None:
    """Only the documented grammar is a duration."""
    assert (parse_duration("4w"), parse_duration("24h")) == (2419200, 86400)
    assert parse_duration("-1") is None
    for text in ("4", "", "-2", "1.5h", "0s", "h"):
        with pytest.raises(ValueError, match="no duration"):
            parse_duration(text)


def test_url_credentials_are_decoded() -> None:
    """ACL users and percent-encoded passwords, TLS, IPv6 and a database are understood."""
    url = parse_redis_url("rediss://app:p%40ss@[::1]:6380/2?ssl_cert_reqs=none")
    assert (url.username, url.password, url.db) == ("app", "p@ss", 2)
    assert url.hosts == (("::1", 6380),)
    assert url.tls
    assert url.tls.requirement == "none"


def test_cluster_urls_list_nodes() -> None:
    """Several URLs, or several hosts in one, name the nodes of a cluster."""
    nodes = (("a", 1), ("b", 6379))
    assert parse_redis_url("redis://a:1/0,redis://b/0").hosts == nodes
    assert parse_redis_url("redis://a:1,b/0").hosts == nodes


def test_standalone_is_located_without_asking() -> None:
    """A plain URL is the server."""
    topology = topology_from(load_settings({"REDIS_URL": "redis://h:7"}))
    assert isinstance(topology, Standalone)
    assert topology.current("any") == ("h", 7)
    assert topology_from(load_settings({})) is None


def test_newest_epoch_wins() -> None:
    """A sentinel that missed the failover cannot lead back to the old primary."""
    before, after = Answer(OLD, 1), Answer(NEW, 2)
    assert decide(None, [before, after], 3) == after
    assert decide(after, [before], 3) == after
    assert decide(after, [], 3) == after
    assert decide(after, [before, before], 3) == before  # a majority: they were reset


def test_slot_map_keeps_the_newest_claim() -> None:
    """A node that does not know of the failover changes nothing."""
    text = (
        "id1 127.0.0.1:1@11 master,fail - 0 0 1 disconnected 0-8191\n"
        "id2 127.0.0.1:2@12,host myself,master - 0 0 4 connected 8192-16383 [5-<-id1]\n"
        "id3 127.0.0.1:3@13 slave id1 0 0 1 connected\n"
        "id4 :0@0 slave,noaddr id1 0 0 1 disconnected\n"
    )
    claims, nodes = parse_nodes(text)
    assert nodes == {OLD, NEW, ("127.0.0.1", 3)}
    slots = SlotMap()
    assert not slots.merge(claims)
    assert slots.owners[0] == Owner(OLD, 1, "id1")
    assert slots.merge([(Owner(NEW, 5), ((0, 8191),))])
    assert not slots.merge(claims)
    assert slots.owners[0] == Owner(NEW, 5)


def test_events_share_a_slot_named_by_purpose() -> None:
    """The stream, its helpers and the plain key that faults aim at are in one slot."""
    from redis.crc import key_slot

    keys = Keys("open-webui")
    names = [keys.events, keys.events_origin("x"), "open-webui:socketio"]
    assert len({key_slot(name.encode()) for name in names}) == 1


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (redis_errors.ReadOnlyError("READONLY"), True),
        (redis_errors.BusyLoadingError("LOADING"), True),
        (redis_errors.MovedError("1 127.0.0.1:2"), True),
        (redis_errors.ResponseError("MISCONF disk"), True),
        (redis_errors.RedisClusterException("no"), True),
        (redis_errors.ConnectionError("gone"), False),
        (TimeoutError(), False),
    ],
)
def test_one_taxonomy(error: Exception, refused: bool) -> None:
    """Whatever the mode, losing Redis is RedisUnavailable; refused means not executed."""
    found = translate(error)
    assert isinstance(found, RedisUnavailable)
    assert found.refused is refused


def test_mistakes_are_no_outage() -> None:
    """WRONGTYPE is a bug, not an outage."""
    assert translate(redis_errors.ResponseError("WRONGTYPE Operation against a key")) is None


def test_commands_are_routed_by_their_key() -> None:
    """Scripts, streams and keyless commands find their node too."""
    assert key_of(("GET", "k")) == "k"
    assert key_of(("EVAL", "return 1", 1, "k", "a")) == "k"
    assert key_of(("XREAD", "COUNT", 1, "STREAMS", "s", "0")) == "s"
    assert key_of(("PUBLISH", "channel", "m")) == "channel"
    assert key_of(("PING",)) == ""


@pytest.mark.parametrize(
    ("flags", "minority"),
    [
        (("myself,master", "master", "master"), False),
        (("myself,master", "master,fail?", "master"), False),
        (("myself,master", "master,fail?", "master,fail"), True),
        (("master,fail?", "master,fail?", "master,fail?"), True),
        (("myself,master", "master,fail"), True),
        (("myself,master",), False),
        ((), False),
    ],
)
def test_a_node_in_a_minority_says_so(flags: tuple[str, ...], minority: bool) -> None:
    """Half of the primaries is no majority; replicas and primaries without slots do not count."""
    lines = [
        f"id{n} 127.0.0.1:{n}@1 {each} - 0 0 {n} connected {n}" for n, each in enumerate(flags)
    ]
    lines += [
        "r 127.0.0.1:8@1 slave,fail id0 0 0 1 connected",
        "n 127.0.0.1:9@1 master,fail - 0 0 0 x",
    ]
    assert in_minority("\n".join(lines)) is minority
