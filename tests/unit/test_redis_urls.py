"""Redis URLs, host lists, durations and key names: properties, and what is refused."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from runtime.realtime.pubsub import manager_url
from runtime.redis.cluster import Cluster, parse_nodes
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.redis.sentinel import Sentinel
from runtime.redis.tls import Tls
from runtime.redis.urls import masked_url, parse_redis_url
from runtime.settings import UNITS, SettingsError, load_settings, parse_duration, parse_hosts
from runtime.storage.engine import driver_url

names = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True)
ipv6 = st.ip_addresses(v=6).map(str)
hosts = st.one_of(names, st.ip_addresses(v=4).map(str), ipv6)
ports = st.integers(1, 65535)
secrets = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)


def written(host: str, port: int | None) -> str:
    """Return an address as a URL writes it."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


@given(hosts, st.none() | ports, secrets, secrets, st.integers(0, 99), st.booleans())
def test_what_is_written_is_read(
    host: str, port: int | None, user: str, password: str, db: int, tls: bool
) -> None:
    """Any host, port, user, password and database come back, whatever characters they have."""
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    scheme = "rediss" if tls else "redis"
    url = parse_redis_url(f"{scheme}://{credentials}@{written(host, port)}/{db}")
    assert (url.username, url.password, url.db) == (user, password, db)
    assert url.hosts == ((host, port or 6379),)
    assert (url.tls is not None) is tls


@given(st.lists(st.tuples(hosts, st.none() | ports), min_size=1, max_size=6))
def test_host_lists_keep_order_and_ports(entries: list[tuple[str, int | None]]) -> None:
    """A list of hosts comes back in order; a host without a port gets the default one."""
    text = " , ".join(written(host, port) for host, port in entries)
    assert parse_hosts(text, 26379) == tuple((host, port or 26379) for host, port in entries)
    joined = ",".join(f"redis://{written(host, port)}/0" for host, port in entries)
    assert parse_redis_url(joined).hosts == tuple((host, port or 6379) for host, port in entries)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text ends in anything but a URL or a message."""
    try:
        url = parse_redis_url(text)
    except SettingsError:
        return
    assert all(1 <= port <= 65535 for _, port in url.hosts)


@given(secrets, secrets, names)
def test_masked_urls_hold_no_password(user: str, password: str, host: str) -> None:
    """Neither user nor password is left, however it is written."""
    text = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@{host}:1/0"
    assert masked_url(text) == f"redis://***@{host}:1/0"
    raw = f"redis://{user.replace(',', '')}:{password.replace(',', '')}@{host}"
    assert masked_url(f"{text},{raw}?password=hunter2").endswith(f"@{host}?password=***")


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from("smhdw")), min_size=1, max_size=4))
def test_durations_are_sums(parts: list[tuple[int, str]]) -> None:
    """A duration is the sum of its parts; zero is refused."""
    text = "".join(f"{number}{unit}" for number, unit in parts)
    expected = sum(number * UNITS[unit] for number, unit in parts)
    if expected:
        assert parse_duration(text) == expected
    else:
        with pytest.raises(ValueError, match="no duration"):
            parse_duration(text)


@given(
    st.text(st.characters(exclude_characters=" \t\n{}*?[]", exclude_categories=["Cs"]), min_size=1),
    st.lists(st.uuids(), min_size=60, max_size=60),
)
def test_the_prefix_is_no_hash_tag(prefix: str, ids: list[object]) -> None:
    """Keys under any prefix spread over all primaries of a cluster of three."""
    keys = Keys(prefix)
    slots = [key_slot(keys.session(str(each)).encode()) for each in ids]
    assert len(set(ids)) < 20 or {slot * 3 // 16384 for slot in slots} == {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://h", "unknown scheme `http`"),
        ("h:6379", "unknown scheme"),
        ("redis://h:99999", "99999 is no port"),
        ("redis://h:0", "0 is no port"),
        ("redis://h:x", "is no host"),
        ("redis://h/one", "`one` is no database"),
        ("redis://h?ssl_ca_certs=x", "needs the scheme rediss"),
        ("redis://h?timeout=5", "unknown option `timeout`"),
        ("rediss://h?ssl_cert_reqs=maybe", "required, optional or none"),
        ("rediss://h?ssl_ca_certs=/no/such", "/no/such: no such file"),
        ("rediss://h?ssl_check_hostname=perhaps", "true or false"),
        ("redis://u:a@h,redis://u:b@g", "contradict the first"),
        ("redis://h,rediss://g", "contradict the first"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(text: str, said: str) -> None:
    """One message: the variable, the problem, and the form that is expected."""
    with pytest.raises(SettingsError) as caught:
        parse_redis_url(text)
    assert said in str(caught.value)
    assert "redis://[user:password@]host:port/db" in str(caught.value)


def test_tls_options_are_those_of_redis_py(tmp_path: Path) -> None:
    """Authority, own certificate and checks are read from the query; the context has them."""
    authority = trustme.CA()
    leaf = authority.issue_cert("h")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    query = f"ssl_ca_certs={ca}&ssl_certfile={cert}&ssl_keyfile={key}&ssl_check_hostname=false"
    url = parse_redis_url(f"rediss://h:1/0?{query}")
    assert url.tls == Tls(str(ca), None, str(cert), str(key), "required", check_hostname=False)
    assert url.tls.context() is url.tls.context()
    assert not url.tls.context().check_hostname
    with pytest.raises(SettingsError, match="cannot be used"):
        parse_redis_url(f"rediss://h:1/0?ssl_ca_certs={key}")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"REDIS_URL": "redis://10.0.0.1:6379"}, "name of the service"),
        ({"REDIS_URL": "redis://[::1]:6379"}, "name of the service"),
        ({"REDIS_URL": "redis://localhost"}, "name of the service"),
        ({"REDIS_URL": "redis://a,b"}, "name of the service"),
    ],
)
def test_an_address_is_no_service(environ: dict[str, str], said: str) -> None:
    """With sentinels the URL names the service; an address there is half a configuration."""
    with pytest.raises(SettingsError, match=said):
        topology_from(load_settings({**environ, "REDIS_SENTINEL_HOSTS": "s1"}))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"WEBSOCKET_SENTINEL_HOSTS": "s"}, "WEBSOCKET_SENTINEL_HOSTS is set but"),
        ({"WEBSOCKET_REDIS_CLUSTER": "true"}, "WEBSOCKET_REDIS_CLUSTER is true but"),
        ({"REDIS_SENTINEL_PASSWORD": "x"}, "REDIS_SENTINEL_PASSWORD is set but"),
        ({"REDIS_SENTINEL_HOSTS": "a:99999", "REDIS_URL": "redis://m"}, "99999 is no port"),
        ({"REDIS_KEY_PREFIX": "{app}"}, "REDIS_KEY_PREFIX may not"),
        ({"REDIS_RECONNECT_DELAY": "-1"}, "REDIS_RECONNECT_DELAY=-1"),
        ({"REDIS_SENTINEL_MAX_RETRY_COUNT": "many"}, "REDIS_SENTINEL_MAX_RETRY_COUNT=many"),
        ({"WEBSOCKET_REDIS_OPTIONS": '{"retry_on_timeout": true}'}, "`retry_on_timeout` is not"),
        ({"WEBSOCKET_REDIS_OPTIONS": '{"socket_timeout": 5000}'}, "only be milliseconds"),
    ],
)
def test_half_a_configuration_is_refused(environ: dict[str, str], said: str) -> None:
    """What would connect somewhere else, or nowhere, or do nothing, ends with a message."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert said in str(caught.value)


def test_several_hosts_need_a_cluster() -> None:
    """Two hosts without REDIS_CLUSTER would silently use the first."""
    with pytest.raises(SettingsError, match="REDIS_CLUSTER=true"):
        topology_from(load_settings({"REDIS_URL": "redis://a,b"}))


def test_socket_options_apply_to_the_sockets_alone() -> None:
    """WEBSOCKET_REDIS_OPTIONS change the sockets' connections; null means as the others."""
    options = '{"socket_timeout": null, "socket_connect_timeout": 5, "max_connections": 4}'
    settings = load_settings({"REDIS_URL": "redis://h", "WEBSOCKET_REDIS_OPTIONS": options})
    sockets = settings.websocket()
    assert (sockets.redis_socket_timeout, sockets.redis_socket_connect_timeout) == (1.0, 5.0)
    assert sockets.redis_max_connections == 4
    assert settings.redis_socket_connect_timeout == 0.5
    assert settings.separate_websocket_redis


def test_delays_and_checks_reach_the_connections() -> None:
    """REDIS_RECONNECT_DELAY is in milliseconds, the health check in seconds."""
    environ = {"REDIS_URL": "redis://h", "REDIS_RECONNECT_DELAY": "500"}
    topology = topology_from(load_settings({**environ, "REDIS_HEALTH_CHECK_INTERVAL": "7"}))
    assert topology
    assert topology.dial.reconnect_delay == 0.5
    assert topology.dial.health_check == 7
    pauses = sorted(topology.dial.pause(0.1) for _ in range(200))
    assert 0.25 <= pauses[0] <= pauses[-1] <= 0.5
    assert pauses[-1] - pauses[0] > 0.2, "workers that lost Redis together come back spread"


def test_ipv6_is_no_list_of_ports() -> None:
    """A bare IPv6 address, as in REDIS_SENTINEL_HOSTS, is one host."""
    assert parse_hosts("::1,fe80::2", 26379) == (("::1", 26379), ("fe80::2", 26379))
    assert ipaddress.ip_address(parse_hosts("[::1]:5", 1)[0][0]).is_loopback


def test_the_stock_manager_refuses_a_cluster() -> None:
    """It would send everything through one node, and be deaf without it (W-16)."""
    settings = load_settings({"REDIS_URL": "redis://a,b", "REDIS_CLUSTER": "true"})
    with pytest.raises(SettingsError, match="choose WEBSOCKET_MANAGER=redis"):
        manager_url(settings)


@pytest.mark.parametrize("url", ["mysql://h/db", "nonsense", "postgresql://h:port/db"])
def test_a_wrong_database_is_named(url: str) -> None:
    """DATABASE_URL is SQLite or PostgreSQL; anything else ends with a message."""
    with pytest.raises(SettingsError, match=r"DATABASE_URL.*write sqlite"):
        driver_url(url)


def test_database_urls_keep_their_password() -> None:
    """Percent-encoded passwords reach the driver."""
    url = driver_url("postgres://u:p%40ss@h:5432/db")
    assert url == "postgresql+psycopg://u:p%40ss@h:5432/db"
    assert driver_url("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"


def test_the_older_name_of_the_cluster_flag() -> None:
    """REDIS_CLUSTER_MODE means the same."""
    topology = topology_from(load_settings({"REDIS_URL": "redis://a,b", "REDIS_CLUSTER_MODE": "1"}))
    assert isinstance(topology, Cluster)


def test_sentinels_win_over_the_cluster_flag() -> None:
    """As upstream documents it."""
    environ = {"REDIS_URL": "redis://m", "REDIS_SENTINEL_HOSTS": "s", "REDIS_CLUSTER": "true"}
    assert isinstance(topology_from(load_settings(environ)), Sentinel)


def test_cluster_nodes_are_dialled_by_the_name_they_announce_with_tls() -> None:
    """Certificates of managed services hold names, not addresses."""
    text = "id1 10.0.0.1:6379@16379,node-1.example myself,master - 0 0 1 connected 0-16383\n"
    assert parse_nodes(text)[1] == {("10.0.0.1", 6379)}
    assert parse_nodes(text, by_name=True)[1] == {("node-1.example", 6379)}
