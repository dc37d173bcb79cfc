"""A harness's life in miniature, run as a process of its own so that it can be killed.

Starts a guardian with a paused redis-server, a process that ignores SIGTERM, and one whose own
child leads another session; says so in one line of JSON and waits for its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from harness.deploy.folder import RunFolder
from harness.deploy.host import ProcessHost
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment
from harness.deploy.redis import start_redis
from harness.deploy.spawner import Guardian
from harness.scenario import Redis
from harness.targets import get_target
from harness.waiting import wait_for

STUBBORN = (
    "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
)
PARENT = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'],"
    " start_new_session={session})\n"
    "print(child.pid, flush=True)\n"
    "child.wait()\n"
)


def parent(*, session: bool) -> list[str]:
    """Return the command of a process with a child, in a session of its own or not."""
    return [sys.executable, "-c", PARENT.format(session=session)]


async def start(run: RunFolder, *, session: bool) -> tuple[Guardian, dict[str, object]]:
    """Start everything; return the guardian and the facts that a test needs."""
    lease = Lease.acquire()
    guardian = await Guardian.start(run, lease)
    deployment = Deployment("standalone", get_target("runtime"), lease.subnet)
    await start_redis(ProcessHost(guardian), deployment, Redis(), run)
    await guardian.spawn("stubborn", [sys.executable, "-c", STUBBORN], {})
    offspring = await guardian.spawn("parent", parent(session=session), {})
    for process in (guardian.processes["stubborn"], offspring):
        await wait_for(process.log.read_text, 5, f"{process.name} is up")
    guardian.processes["redis-0"].signal(signal.SIGSTOP)
    pids = [process.pid for process in guardian.processes.values()]
    facts = {
        "guardian": guardian.pid,
        "pids": [*pids, int(offspring.log.read_text())],
        "subnet": lease.subnet,
    }
    return guardian, facts


async def main() -> None:
    """Run until killed; Ctrl-C stops everything."""
    run = RunFolder.create(Path(sys.argv[1]))
    guardian, facts = await start(run, session=sys.argv[2] == "session")
    print(json.dumps({**facts, "harness": os.getpid()}), flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await guardian.stop(grace=0.5)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
