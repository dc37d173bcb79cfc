"""Worker roles, node roles that need no question, and what a kill loses."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.choices import Choices
from harness.deploy.model import Deployment, Node, Worker
from harness.faults.base import Aim, FaultError
from harness.faults.process import Kill
from harness.faults.roles import resolve_nodes, resolve_workers
from harness.plan import PlannedFault
from harness.scenario import Redis

INIT = 1  # a process that exists everywhere and holds none of our sockets


def deployment(topology: str = "sentinel", nodes: int = 3) -> Deployment:
    """Return a deployment that does not run, with three workers."""
    made = Deployment(topology, None, "127.96.251")  # type: ignore[arg-type]
    made.nodes = [Node(f"redis-{i}", "redis", "127.96.251.10", i, Path()) for i in range(nodes)]
    made.sentinels = [Node(f"sentinel-{i}", "sentinel", "127.96.251.30", i, Path()) for i in (0, 1)]
    made.workers = [Worker(i, "127.96.251.50", 8080 + i, f"worker-{i}") for i in range(3)]
    return made


async def test_worker_roles() -> None:
    """A number is that worker; `a-worker` is the same one for the same seed and fault."""
    made = deployment()
    assert await resolve_workers("all-workers", made, Choices(1, "f")) == ([0, 1, 2], "")
    assert await resolve_workers("worker:2", made, Choices(1, "f")) == ([2], "")
    once = await resolve_workers("a-worker", made, Choices(1, "f"))
    assert once == await resolve_workers("a-worker", made, Choices(1, "f"))
    picks = [(await resolve_workers("a-worker", made, Choices(s, "f")))[0] for s in range(20)]
    assert sorted(map(tuple, {tuple(p) for p in picks})) == [(0,), (1,), (2,)]


async def test_the_busiest_worker_holds_most_connections_to_the_provider() -> None:
    """Counted from outside, as the kernel lists them."""
    made = deployment()
    with socket.create_server(("127.96.251.3", 0)) as server:
        made.provider_url = f"http://127.96.251.3:{server.getsockname()[1]}/v1"
        for worker, pid in zip(made.workers, (INIT, os.getpid(), INIT), strict=True):
            worker.process = SimpleNamespace(pid=pid)  # type: ignore[assignment]
        with socket.create_connection(server.getsockname()):
            numbers, remark = await resolve_workers("worker-with-most-tasks", made, Choices(1, "f"))
        assert numbers == [1]
        assert "{0: 0, 1: 1, 2: 0}" in remark
        numbers, remark = await resolve_workers("worker-with-most-tasks", made, Choices(1, "f"))
        assert numbers[0] in (0, 1, 2)
        assert "no worker holds a stream" in remark


async def test_sentinel_and_node_roles_need_no_answer() -> None:
    """All means all; one is chosen by seed."""
    made = deployment()
    assert await resolve_nodes("all-nodes", made, Choices(1, "f")) == [
        "redis-0",
        "redis-1",
        "redis-2",
    ]
    assert await resolve_nodes("all-sentinels", made, Choices(1, "f")) == [
        "sentinel-0",
        "sentinel-1",
    ]
    [one] = await resolve_nodes("a-sentinel", made, Choices(1, "f"))
    assert one in ("sentinel-0", "sentinel-1")


async def test_a_role_that_nobody_has_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the role and how long it was looked for."""
    monkeypatch.setattr("harness.faults.roles.SETTLE_S", 0.1)
    with pytest.raises(FaultError, match="a node with role primary: not so"):
        await resolve_nodes("primary", deployment(), Choices(1, "f"))


@pytest.mark.parametrize(
    ("topology", "target", "restart", "persistence", "for_s", "loses"),
    [
        ("standalone", "primary", "kept", "aof", 5.0, False),
        ("standalone", "primary", "empty", "aof", 5.0, True),
        ("standalone", "primary", "kept", "none", 5.0, True),
        ("sentinel", "primary", "kept", "none", 5.0, False),
        ("sentinel", "primary", "empty", "aof", 0.5, True),
        ("sentinel", "a-replica", "empty", "none", 0.5, False),
        ("sentinel", "all-nodes", "kept", "none", 5.0, True),
        ("cluster", "primary-of:tasks", "kept", "none", 0.5, True),
        ("cluster", "primary-of:tasks", "kept", "none", 5.0, False),
    ],
)
def test_a_kill_says_whether_data_is_gone_by_design(
    topology: str, target: str, restart: str, persistence: Any, for_s: float, loses: bool
) -> None:
    """Gone is what no other node can serve a copy of."""
    made = deployment(topology, nodes=1 if topology == "standalone" else 3)
    spec = {"kind": "kill", "target": target, "restart": restart, "for_s": for_s}
    context = SimpleNamespace(redis=Redis(persistence=persistence))
    fault = Kill(PlannedFault("f0", 0.0, for_s, spec), made, context)
    every = target == "all-nodes"
    fault.target = Aim([n.name for n in made.nodes] if every else ["redis-0"])
    assert fault.loses_data is loses
