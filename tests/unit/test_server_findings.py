"""The rules of `runtime check`: each speaks up at its mistake, and is silent without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.operate.findings import Server, judge
from runtime.redis.errors import CODES
from runtime.redis.permissions import acl_rules, sentinel_rules

FINE = Server(
    where="h:1",
    mode="sentinel",
    role="master",
    info={
        "redis_version": "7.0.15",
        "connected_clients": "10",
        "connected_slaves": "1",
        "used_memory": "1000",
        "aof_enabled": "1",
        "cluster_enabled": "0",
        "rdb_last_bgsave_status": "ok",
    },
    config={
        "maxclients": "10000",
        "timeout": "1800",
        "maxmemory": "1000000",
        "maxmemory-policy": "volatile-lru",
        "save": "3600 1",
        "min-replicas-to-write": "1",
    },
)


def test_a_good_server_has_no_findings() -> None:
    """What is recommended is not complained about."""
    assert judge(FINE) == []


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        ({"role": "slave"}, "error", "is a replica"),
        ({"role": "sentinel"}, "error", "is a sentinel"),
        ({"info": {"cluster_enabled": "1"}}, "error", "node of a cluster"),
        ({"info": {"redis_version": "6.0.16"}}, "error", "6.2 or newer"),
        ({"info": {"connected_clients": "9000"}}, "warning", "9000 of maxclients 10000"),
        ({"config": {"maxclients": "1000"}}, "warning", "maxclients is 1000"),
        ({"config": {"timeout": "0"}}, "warning", "timeout is 0"),
        ({"config": {"maxmemory-policy": "allkeys-lru"}}, "warning", "allkeys-lru"),
        ({"config": {"maxmemory": "0"}}, "note", "maxmemory is not set"),
        ({"info": {"used_memory": "900000"}}, "warning", "900000 of 1000000"),
        ({"info": {"rdb_last_bgsave_status": "err"}}, "warning", "saving fails"),
        ({"info": {"aof_enabled": "0"}, "config": {"save": ""}}, "warning", "nothing is saved"),
        ({"info": {"connected_slaves": "0"}}, "warning", "has no replica"),
        ({"config": {"min-replicas-to-write": "0"}}, "note", "min-replicas-to-write"),
    ],
)
def test_each_mistake_is_found(change: dict[str, object], level: str, said: str) -> None:
    """One finding, of the right weight, that says what to do."""
    changed = {
        name: {**getattr(FINE, name), **value} if isinstance(value, dict) else value
        for name, value in change.items()
    }
    found = [each for each in judge(replace(FINE, **changed)) if said in each.what]
    assert [each.level for each in found] == [level]
    assert found[0].fix
    assert found[0].evidence
    assert found[0].consequence


def test_an_old_server_cannot_be_had_here_so_its_rule_is_asked_alone() -> None:
    """The finding has the name of the page."""
    old = replace(FINE, info={**FINE.info, "redis_version": "6.0.16"})
    assert [found.name for found in judge(old)] == ["redis-too-old"]


def test_what_an_acl_hides_is_not_guessed() -> None:
    """Without CONFIG and with a bare INFO there is nothing to say."""
    assert judge(replace(FINE, info={"connected_slaves": "1"}, config={})) == []


def test_the_worst_comes_first() -> None:
    """An operator reads from the top."""
    found = judge(replace(FINE, role="slave", config={**FINE.config, "timeout": "0"}))
    assert [each.level for each in found] == ["error", "warning"]


def test_the_documented_rules_are_the_tested_ones() -> None:
    """docs/redis.md shows the rules that the tests run the application with."""
    text = (Path(__file__).parents[2] / "docs" / "redis.md").read_text(encoding="utf-8")
    words = set(text.split())
    assert set(acl_rules("open-webui")) <= words
    assert set(sentinel_rules()) <= words
    assert all(f"`{code}`" in text for code in CODES)
