"""Targets: how they are found, and what the runtime is told about Redis."""

from __future__ import annotations

import sys

import pytest

from harness.errors import UserError
from harness.targets import get_target
from harness.targets.base import RedisAccess, WorkerSpec
from harness.targets.runtime import PREFIX, RuntimeTarget

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
