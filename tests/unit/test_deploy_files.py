"""The files that Redis servers start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deploy import parts
from harness.deploy import redis_files as files
from harness.deploy.host import refuses_nonsense
from harness.deploy.model import Deployment, Node
from harness.scenario import Redis, Scenario
from harness.targets import get_target


@pytest.fixture
def nodes(tmp_path: Path) -> list[Node]:
    """Return six nodes with folders."""
    found = []
    for number in range(6):
        directory = tmp_path / f"redis-{number}"
        directory.mkdir()
        host = f"127.93.1.{10 + number}"
        found.append(Node(f"redis-{number}", "redis", host, 6379, directory))
    return found


def _config(node: Node) -> list[str]:
    return (node.directory / files.CONFIG).read_text().splitlines()


def test_a_node_without_persistence_keeps_no_dump(nodes: list[Node]) -> None:
    """Nothing that a synchronisation left behind may come back at a restart."""
    files.write_node(nodes[0], Redis(), "standalone", None)
    assert {"appendonly no", 'save ""', "rdb-del-sync-files yes"} <= set(_config(nodes[0]))


def test_a_node_with_aof_saves_nothing_else(nodes: list[Node]) -> None:
    """With `persistence: aof` the append-only file is the only one."""
    files.write_node(nodes[0], Redis(persistence="aof"), "standalone", None)
    assert {"appendonly yes", 'save ""'} <= set(_config(nodes[0]))


def test_settings_of_the_scenario_win(nodes: list[Node]) -> None:
    """Redis takes the last of two equal settings; the scenario's stand last."""
    redis = Redis(config={"cluster-require-full-coverage": "yes", "maxclients": "50"})
    files.write_node(nodes[0], redis, "cluster", None)
    lines = _config(nodes[0])
    assert lines[-2:] == ["cluster-require-full-coverage yes", "maxclients 50"]
    assert lines.index("cluster-require-full-coverage no") < len(lines) - 2


def test_an_old_server_gets_no_setting_that_it_does_not_know(nodes: list[Node]) -> None:
    """Redis 6.2 refuses to start with a setting of 7.0."""
    files.write_node(nodes[0], Redis(), "standalone", None, modern=False)
    assert not [line for line in _config(nodes[0]) if line.startswith(("bind-source", "shutdown"))]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n"
            "Reading the configuration file, at line 2\n>>> 'port none'\n"
            "argument couldn't be parsed into an integer\n",
            True,
        ),
        (
            "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n"
            "Reading the configuration file, at line 1\n>>> 'tls-replication yes'\n"
            "Bad directive or wrong number of arguments\n",
            False,
        ),
    ],
)
def test_a_server_without_tls_refuses_the_first_setting_of_it(answer: str, expected: bool) -> None:
    """It is asked by two settings, of which a server with TLS refuses the second alone."""
    assert refuses_nonsense(answer) is expected


def test_a_scenario_with_tls_is_skipped_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On processes alone: what an image has is not known."""
    monkeypatch.setattr(parts, "speaks_tls", lambda: False)
    fields = {"name": "x", "story": "A scenario of the tests.", "topology": "standalone"}
    asked = {**fields, "redis": {"tls": "server"}}
    assert "built without it" in parts.missing_part(Scenario.model_validate(asked))
    assert parts.missing_part(Scenario.model_validate(fields)) == ""
    assert parts.missing_part(Scenario.model_validate({**asked, "host": "containers"})) == ""


def test_cluster_state_covers_every_slot_once(nodes: list[Node]) -> None:
    """Three primaries share all slots; node i + 3 replicates node i; each names itself."""
    files.write_cluster_state(nodes[4], nodes, 3)
    *members, variables = (nodes[4].directory / "nodes.conf").read_text().splitlines()
    fields = [member.split() for member in members]
    slots = [tuple(map(int, f[8].split("-"))) for f in fields[:3]]
    assert slots == [(0, 5460), (5461, 10921), (10922, 16383)]
    assert [f[3] for f in fields[3:]] == [f[0] for f in fields[:3]]
    assert [f[2].startswith("myself,") for f in fields] == [False] * 4 + [True, False]
    assert len({f[0] for f in fields}) == 6
    assert variables == "vars currentEpoch 3 lastVoteEpoch 0"


def test_a_sentinel_knows_everybody_from_the_start(nodes: list[Node], tmp_path: Path) -> None:
    """Its file names the replicas, the other sentinels with their ids, and a majority as quorum."""
    directory = tmp_path / "sentinel"
    directory.mkdir()
    sentinels = [
        Node(f"sentinel-{i}", "sentinel", f"127.93.1.{30 + i}", 26379, directory) for i in range(3)
    ]
    deployment = Deployment("sentinel", get_target("runtime"), "127.93.1", nodes[:3], sentinels)
    files.write_sentinel(sentinels[1], deployment, Redis(down_after_ms=700))
    lines = _config(sentinels[1])
    assert "sentinel monitor mymaster 127.93.1.10 6379 2" in lines
    assert "sentinel down-after-milliseconds mymaster 700" in lines
    assert "sentinel failover-timeout mymaster 3000" in lines
    assert len([line for line in lines if "known-replica" in line]) == 2
    others = [line for line in lines if "known-sentinel" in line]
    assert [line.split()[3] for line in others] == ["127.93.1.30", "127.93.1.32"]
    assert others[0].endswith(files.identity(sentinels[0]))
