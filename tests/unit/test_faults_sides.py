"""Partitions: who is on which side, which packets meet a rule, what a scenario may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.choices import Choices
from harness.deploy.model import Deployment, Node
from harness.deploy.parts import IN_CONTAINERS, missing_part
from harness.errors import UserError
from harness.faults.dials import Sides
from harness.faults.roles import cluster_role
from harness.faults.views import parse_cluster_nodes
from harness.network import firewall
from harness.scenario import Scenario, load_scenario

FILE = """name: cut-off
story: Nodes are cut off from each other while users chat.
topology: {topology}
faults:
  - {{at: 1, kind: partition, target: {target}, {more}}}
"""


def _scenario(folder: Path, topology: str, target: str, more: str = "for_s: 5") -> Scenario:
    path = folder / "file.yaml"
    path.write_text(FILE.format(topology=topology, target=target, more=more))
    return load_scenario(path)


@pytest.mark.parametrize(
    ("topology", "target", "more", "words"),
    [
        ("standalone", "primary", "for_s: 5", "needs nodes that talk to each other"),
        ("sentinel", "primary", "peers: all-replica", "did you mean `all-replicas`?"),
        ("cluster", "a-minority", "peers: a-sentinel", "no such role of topology cluster"),
        ("cluster", "a-minority", "for_s: 2", "greater than or equal to 4"),
    ],
)
def test_a_partition_that_cannot_be_is_explained(
    tmp_path: Path, topology: str, target: str, more: str, words: str
) -> None:
    """The message names what is wrong and what there is instead."""
    with pytest.raises(UserError) as caught:
        _scenario(tmp_path, topology, target, more)
    assert words in str(caught.value)


def test_a_scenario_is_skipped_where_nodes_cannot_be_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers, and where the packet filter is out of reach, the reason is one sentence."""
    scenario = _scenario(tmp_path, "sentinel", "primary")
    monkeypatch.setattr(firewall, "missing", lambda: "the packet filter wants root")
    assert missing_part(scenario) == (
        "it cuts nodes off from each other, and the packet filter wants root"
    )
    assert missing_part(scenario.model_copy(update={"host": "containers"})) == IN_CONTAINERS
    monkeypatch.setattr(firewall, "missing", lambda: "")
    assert missing_part(scenario) == ""


def test_pairs_go_both_ways_across_and_never_along() -> None:
    """Two against one: four ordered pairs."""
    pairs = firewall.pairs_between(["127.20.3.10", "127.20.3.30"], ["127.20.3.11"])
    assert sorted(pairs) == [
        ("127.20.3.10", "127.20.3.11"),
        ("127.20.3.11", "127.20.3.10"),
        ("127.20.3.11", "127.20.3.30"),
        ("127.20.3.30", "127.20.3.11"),
    ]


def test_sides_know_who_is_apart() -> None:
    """Ways lead across in both directions; nodes of one side are not apart."""
    nodes = [Node(f"redis-{i}", "redis", f"127.20.3.1{i}", 6379, Path()) for i in range(3)]
    deployment = Deployment("sentinel", None, "127.20.3", nodes)  # type: ignore[arg-type]
    sides = Sides(deployment, nodes[:1], nodes[1:])
    assert str(sides) == "redis-0 ↮ redis-1, redis-2"
    assert [(a.name, b.name) for a, b in sides.ways][:2] == [
        ("redis-0", "redis-1"),
        ("redis-0", "redis-2"),
    ]
    assert len(sides.ways) == 4
    assert sides.apart("redis-2", "redis-0")
    assert not sides.apart("redis-1", "redis-2")


def _cluster() -> tuple[Deployment, str]:
    """Return a deployment of six nodes and CLUSTER NODES of it: node i + 3 replicates node i."""
    nodes = [Node(f"redis-{i}", "redis", f"127.20.3.1{i}", 6379, Path()) for i in range(6)]
    deployment = Deployment("cluster", None, "127.20.3", nodes)  # type: ignore[arg-type]
    lines = []
    for i, node in enumerate(nodes):
        head = f"id{i} {node.host}:6379@16379"
        if i < 3:
            lines.append(f"{head} master - 0 0 {i + 1} connected {i * 5000}-{i * 5000 + 4999}")
        else:
            lines.append(f"{head} slave id{i - 3} 0 0 {i - 2} connected")
    return deployment, "\n".join(lines)


def test_a_minority_of_a_cluster_has_no_copy_of_its_primary() -> None:
    """One primary and the replica of another one, the same for the same seed; seeds differ."""
    deployment, view = _cluster()
    members = parse_cluster_nodes(view)
    seen = set()
    for seed in range(40):
        found = cluster_role("a-minority", deployment, members, Choices(seed, "f"))
        assert found == cluster_role("a-minority", deployment, members, Choices(seed, "f"))
        primary, replica = (int(name.removeprefix("redis-")) for name in found)
        assert primary < 3 <= replica != primary + 3
        seen.add((primary, replica))
    assert len({primary for primary, _ in seen}) == 3
