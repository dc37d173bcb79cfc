"""Targets: how they are found, and what the runtime is told about Redis."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.deploy.service import clean_environment
from harness.errors import UserError
from harness.targets import get_target
from harness.targets.access import Login, TlsFiles
from harness.targets.base import RedisAccess, WorkerSpec
from harness.targets.runtime import PREFIX, RuntimeTarget, redis_environment

NODES = (("127.94.1.10", 6379), ("127.94.1.11", 6379))
SENTINELS = (("127.94.1.30", 26379), ("127.94.1.31", 26379))


def spec(redis: RedisAccess) -> WorkerSpec:
    """Return a worker on the given Redis."""
    return WorkerSpec(1, "127.94.1.51", 8080, "worker-1", redis, "http://p/v1", "data", "secret")


def test_the_runtime_serves_in_the_foreground() -> None:
    """The command line is `runtime serve` with the harness's interpreter."""
    command = get_target("runtime").command(spec(RedisAccess("standalone", NODES[:1])))
    assert command[:4] == [sys.executable, "-m", "runtime", "serve"]
    assert command[4:] == ["--host", "127.94.1.51", "--port", "8080"]


def test_a_replaced_command_gets_the_same_options() -> None:
    """A mutant is started like the runtime."""
    target = get_target("runtime", "python -m tests.mutants.x --flag 'a b'")
    command = target.command(spec(RedisAccess("standalone", NODES[:1])))
    assert command[:5] == [sys.executable, "-m", "tests.mutants.x", "--flag", "a b"]
    assert command[5] == "serve"


@pytest.mark.parametrize(
    ("redis", "expected"),
    [
        (RedisAccess("standalone", NODES[:1]), {"REDIS_URL": "redis://127.94.1.10:6379/0"}),
        (
            RedisAccess("sentinel", NODES, SENTINELS),
            {
                "REDIS_URL": "redis://mymaster:6379/0",
                "REDIS_SENTINEL_HOSTS": "127.94.1.30,127.94.1.31",
                "REDIS_SENTINEL_PORT": "26379",
            },
        ),
        (
            RedisAccess("cluster", NODES),
            {
                "REDIS_URL": "redis://127.94.1.10:6379/0,redis://127.94.1.11:6379/0",
                "REDIS_CLUSTER": "true",
            },
        ),
    ],
)
def test_the_topology_is_told_by_variables(redis: RedisAccess, expected: dict[str, str]) -> None:
    """Each topology has exactly its own REDIS_ variables, at the announced addresses."""
    environment = RuntimeTarget().environment(spec(redis))
    named = {k: v for k, v in environment.items() if k.startswith("REDIS_")}
    named.pop("REDIS_KEY_PREFIX")
    assert named == expected


TLS = TlsFiles("/c/ca.pem", "/c/client.pem", "/c/client.key")


@pytest.mark.parametrize("topology", ["standalone", "sentinel", "cluster"])
def test_credentials_and_tls_reach_the_runtime(
    topology: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the harness writes into the URL is what the runtime's own parser reads from it."""
    from runtime.redis import tls
    from runtime.redis.urls import parse_redis_url
    from runtime.settings import load_settings

    monkeypatch.setattr(tls.Tls, "_check_files", lambda _: None)
    sentinels = SENTINELS if topology == "sentinel" else ()
    login, other = Login("app", "p@ss:w/rd#1%"), Login("watcher", "s#cret")
    nodes = NODES[:1] if topology == "standalone" else NODES
    access = RedisAccess(topology, nodes, sentinels, login=login, sentinel_login=other, tls=TLS)
    settings = load_settings(RuntimeTarget().environment(spec(access)))
    url = parse_redis_url(settings.redis_url or "")
    assert (url.username, url.password) == ("app", "p@ss:w/rd#1%")
    assert url.tls == tls.Tls(ca=TLS.ca, certificate=TLS.certificate, key=TLS.key)
    told = settings.redis_sentinel_username, settings.redis_sentinel_password
    assert told == (("watcher", "s#cret") if sentinels else (None, None))


def test_sentinels_with_ports_of_their_own_are_all_told() -> None:
    """In containers they share an address."""
    sentinels = (("127.94.1.30", 26379), ("127.94.1.30", 26380))
    found = redis_environment(RedisAccess("sentinel", NODES, sentinels))
    assert found["REDIS_SENTINEL_HOSTS"] == "127.94.1.30,127.94.1.30:26380"
    assert found["REDIS_SENTINEL_PORT"] == "26379"


def test_the_runtime_tells_its_rules() -> None:
    """The rules are those of docs/redis.md, for the topology and the manager of the scenario."""
    from runtime.redis.permissions import PUBSUB_MANAGER, acl_rules, sentinel_rules

    access = RedisAccess("sentinel", NODES, SENTINELS)
    environment = clean_environment() | {"WEBSOCKET_MANAGER": "redis-pubsub"}
    rules = RuntimeTarget().permissions(access, environment)
    assert set(rules.nodes) == {*acl_rules(PREFIX), *PUBSUB_MANAGER}
    assert set(sentinel_rules()) < set(rules.sentinels)


def test_a_target_that_tells_no_rules_is_a_users_mistake() -> None:
    """The message has the command and what it said."""
    target = RuntimeTarget([sys.executable, "-c", "raise SystemExit('no such command')"])
    with pytest.raises(UserError, match=r"expected ACL rules from .* acl --json.*no such command"):
        target.permissions(RedisAccess("standalone", NODES[:1]), clean_environment())


def test_an_unknown_target_names_the_nearest() -> None:
    """A typing error in a target's name is answered with the right one."""
    with pytest.raises(UserError, match="did you mean `runtime`"):
        get_target("runtme")


@pytest.mark.parametrize("command", ["", "no-such-program-here serve", "python 'open"])
def test_a_command_that_cannot_start_is_a_users_mistake(command: str) -> None:
    """Empty, unfindable or unbalanced commands are refused before anything runs."""
    with pytest.raises(UserError, match="--target-command"):
        get_target("runtime", command)


def test_an_unknown_purpose_has_no_key() -> None:
    """Faults may aim at events, tasks and sessions only."""
    with pytest.raises(UserError, match="events, sessions, tasks"):
        RuntimeTarget().key("documents")


@pytest.mark.parametrize("purpose", ["events", "tasks", "sessions"])
def test_keys_are_those_of_the_runtime(purpose: str) -> None:
    """A fault on `primary-of:events` hits the node whose key the runtime really uses."""
    from runtime.redis.keys import Keys

    assert RuntimeTarget().key(purpose) == Keys(PREFIX).key(purpose)


def test_channels_are_those_of_the_runtime() -> None:
    """A flood on `tasks` hits the channel that the runtime really listens on."""
    from runtime.redis.keys import Keys

    keys, target = Keys(PREFIX), RuntimeTarget()
    assert target.channel("tasks") == keys.task_commands
    assert target.channel("events") == keys.events_channel
    with pytest.raises(UserError, match="no channel `sessions`; known: events, tasks"):
        target.channel("sessions")


def test_the_runtime_accepts_its_environment() -> None:
    """The runtime's own settings read every topology's variables without an error."""
    from runtime.settings import load_settings

    for redis in (
        RedisAccess("standalone", NODES[:1]),
        RedisAccess("sentinel", NODES, SENTINELS),
        RedisAccess("cluster", NODES),
    ):
        settings = load_settings(RuntimeTarget().environment(spec(redis)))
        assert settings.sentinels == redis.sentinels
        assert settings.redis_cluster is (redis.topology == "cluster")
        assert settings.provider_urls == ("http://p/v1",)
        assert settings.manager == "redis"
        assert settings.argon2_time_cost == 1
