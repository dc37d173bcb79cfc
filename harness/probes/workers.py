"""Connections, memory, descriptors, threads and processor time of every worker, from outside."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from harness.clock import monotonic
from harness.deploy.model import Process, Worker
from harness.faults.sockets import Address, descriptors, established, inodes_of
from harness.probes.base import Probe
from harness.probes.timing import ticks

PERIOD_S = 0.25
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


class WorkerProbe(Probe):
    """Counts a worker's established sockets to its links, or to the nodes without links.

    Behind a proxy CLIENT LIST shows the proxy's address; only the kernel knows whose they are.
    """

    name = "worker"

    async def watch(self) -> None:
        """Sample all workers four times a second."""
        self._used: dict[int, tuple[float, float]] = {}
        async for _ in ticks(PERIOD_S):
            self._peers = peers_of(self)  # a half-open cut changes the links
            sockets = established(self._peers.keys())
            for worker in self.deployment.workers:
                process = worker.process
                if process is not None and process.exit_status is None:
                    self._sample(worker, process, sockets)

    def _sample(self, worker: Worker, process: Process, sockets: dict[int, Address]) -> None:
        pid = process.pid
        targets = descriptors(pid)
        usage = usage_of(pid)
        if not targets or usage is None:
            return  # it ended a moment ago
        cpu, threads, rss = usage
        nodes = Counter(self._peers[sockets[i]] for i in inodes_of(targets) & sockets.keys())
        self.writer.record(
            "sample",
            probe="worker",
            worker=worker.number,
            connections=nodes.total(),
            nodes=nodes,
            rss=rss,
            fds=len(targets),
            threads=threads,
            cpu=self._share(worker.number, cpu),
            log=process.log.stat().st_size,
        )

    def _share(self, worker: int, used: float) -> float:
        """Return the share of one core used since the last sample."""
        now = monotonic()
        before, then = self._used.get(worker, (used, now - PERIOD_S))
        self._used[worker] = (used, now)
        return round(max(0.0, used - before) / (now - then), 3)


def peers_of(probe: Probe) -> dict[Address, str]:
    """Return address → node name of everything that counts as a connection to Redis."""
    deployment = probe.deployment
    if deployment.links:
        return {
            address: link.node
            for link in deployment.links
            for address in (link.listen, *link.silent)
        }
    return {n.address: n.name for n in (*deployment.nodes, *deployment.sentinels)}


def usage_of(pid: int) -> tuple[float, int, int] | None:
    """Return processor seconds, threads and resident bytes; None when the process is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    cpu = (int(fields[11]) + int(fields[12])) / _TICK
    return cpu, int(fields[17]), int(fields[21]) * _PAGE
