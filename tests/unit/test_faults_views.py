"""Roles as nodes tell them: recorded replies of real Redis 7.0 servers."""

from __future__ import annotations

from typing import Any

import pytest

from harness.choices import Choices
from harness.deploy.model import Deployment, Node
from harness.faults.roles import choose, cluster_role
from harness.faults.views import Member, name_of, parse_cluster_nodes, parse_role, slot_of
from harness.probes.switch import SlotOwners

NODES = """\
07c3 127.96.1.10:6379@16379 myself,master - 0 1700000000000 1 connected 0-5460
11d2 127.96.1.11:6379@16379,host master - 0 1700000000100 2 connected 5461-10922 [93->-292f]
22aa 127.96.1.12:6379@16379 master,fail - 1700000000000 1699999999000 3 connected 10923-16383
33bb 127.96.1.13:6379@16379 slave 07c3 0 1700000000000 1 connected
44cc 127.96.1.14:6379@16379 slave 11d2 0 1700000000000 2 connected
55dd 127.96.1.15:6379@16379 slave,fail? 22aa 0 1700000000000 3 connected
"""
PROMOTED = NODES.replace(
    "slave,fail? 22aa 0 1700000000000 3", "master - 0 1700000000000 7"
).replace("7 connected\n", "7 connected 10923-16383\n")


class FakeTarget:
    """Names one key per purpose."""

    def key(self, purpose: str) -> str:
        """Return the key."""
        return {"events": "p:events", "tasks": "p:tasks", "sessions": "p:session:x"}[purpose]


@pytest.fixture
def cluster(tmp_path: Any) -> Deployment:
    """Return a deployment of six nodes that do not run."""
    nodes = [
        Node(f"redis-{i}", "redis", f"127.96.1.{10 + i}", 6379, tmp_path / str(i)) for i in range(6)
    ]
    return Deployment("cluster", FakeTarget(), "127.96.1", nodes)  # type: ignore[arg-type]


def test_role_of_a_primary_and_of_a_replica() -> None:
    """ROLE tells kind, link and primary; bytes and strings read the same."""
    assert parse_role([b"master", 3129659, []]).name == "primary"
    replica = parse_role(["slave", "127.96.1.10", 6379, "connected", 3167038])
    assert (replica.name, replica.link) == ("replica", "connected")
    assert replica.primary == ("127.96.1.10", 6379)
    assert parse_role([b"sentinel", [b"mymaster"]]).name == "sentinel"


def test_cluster_nodes_are_read_with_epochs_and_slots() -> None:
    """Host names after the port and slots in migration do not disturb."""
    members = parse_cluster_nodes(NODES.encode())
    assert members[1].address == ("127.96.1.11", 6379)
    assert members[1].slots == ((5461, 10922),)
    assert [m.epoch for m in members] == [1, 2, 3, 1, 2, 3]
    assert [m.serves for m in members] == [True, True, False, False, False, False]


def test_single_slots_are_ranges_of_one() -> None:
    """A slot alone is written without a dash."""
    line = NODES.splitlines()[0] + " 16000"
    assert parse_cluster_nodes(line)[0].slots == ((0, 5460), (16000, 16000))


def test_primaries_that_are_down_are_no_target(cluster: Deployment) -> None:
    """a-primary is one of the live primaries, the same one for the same seed and fault."""
    members = parse_cluster_nodes(NODES)
    picks = {
        cluster_role("a-primary", cluster, members, Choices(seed, "fault-f0"))[0]
        for seed in range(20)
    }
    assert picks == {"redis-0", "redis-1"}
    first = cluster_role("a-primary", cluster, members, Choices(5, "fault-f0"))
    assert first == cluster_role("a-primary", cluster, members, Choices(5, "fault-f0"))


def test_replicas_that_are_down_are_no_target(cluster: Deployment) -> None:
    """all-replicas leaves out what is failing."""
    members = parse_cluster_nodes(NODES)
    assert cluster_role("all-replicas", cluster, members, Choices(1, "f")) == ["redis-3", "redis-4"]


def test_primary_of_a_purpose_serves_the_slot_of_its_key(cluster: Deployment) -> None:
    """The key's slot finds the node, after a failover the promoted one."""
    slot = slot_of("p:events")
    before = cluster_role("primary-of:events", cluster, parse_cluster_nodes(NODES), Choices(1, "f"))
    after = parse_cluster_nodes(PROMOTED)
    owner = next(m for m in after if m.serves and m.holds(slot))
    promoted = cluster_role("primary-of:events", cluster, after, Choices(1, "f"))
    assert promoted == [name_of(cluster, owner.address)]
    assert before in ([], promoted)


def test_the_slot_of_a_key_respects_its_hash_tag() -> None:
    """Known values of CLUSTER KEYSLOT."""
    assert slot_of("a") == 15495
    assert slot_of("x:{a}:y") == slot_of("a")


def test_one_choice_is_stable_however_often_it_is_asked() -> None:
    """Waiting for a role asks again; the choice must not move on."""
    choices = Choices(3, "fault-f1")
    names = [f"redis-{i}" for i in range(9)]
    assert choose(names, choices) == choose(names, choices)
    assert choose([], choices) == []


def test_a_promotion_is_seen_once_and_old_views_change_nothing() -> None:
    """The newer config epoch wins; a node that comes back with an old view is ignored."""
    owners = SlotOwners()
    assert owners.update(parse_cluster_nodes(NODES)) == {}
    promoted = {("127.96.1.15", 6379): [(10923, 16383)]}
    assert owners.update(parse_cluster_nodes(PROMOTED)) == promoted
    assert owners.update(parse_cluster_nodes(NODES)) == {}
    assert owners.update(parse_cluster_nodes(PROMOTED)) == {}


def test_a_higher_epoch_of_the_same_owner_is_no_switch() -> None:
    """An election without a new owner, e.g. a bumped epoch, is not a switch."""
    owners = SlotOwners()
    owners.update(parse_cluster_nodes(NODES))
    bumped = [
        Member(m.identity, m.address, m.flags, m.primary, m.epoch + 10, m.slots)
        for m in parse_cluster_nodes(NODES)
    ]
    assert owners.update(bumped) == {}
