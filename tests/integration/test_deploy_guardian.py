"""However the harness ends, nothing of its run stays: processes, lease, data, registry."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.deploy.clean import sweep
from harness.deploy.folder import RunFolder
from harness.deploy.guardian import stat
from harness.deploy.lease import Lease, cache_folder
from harness.deploy.spawner import Guardian, registry_folder
from harness.errors import MissingPart, UserError
from harness.waiting import WaitTimeout, wait_for, wait_for_sync
from tests.integration.deploy_parts import STUBBORN

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep leases and registry of these tests apart."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _gone(pid: int) -> bool:
    """Tell whether the process has ended; one that nobody collects counts as well."""
    return stat(pid)[:1] in ([], ["Z"])


class Harness:
    """A small harness in a process and session of its own."""

    def __init__(self, folder: Path, offspring: str) -> None:
        self.run = RunFolder(folder / "run")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.deploy_parts", str(self.run.root), offspring],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())

    @property
    def left(self) -> list[int]:
        """Return the pids of the run that are still there."""
        pids = [*self.facts["pids"], self.facts["guardian"]]
        return [pid for pid in pids if not _gone(pid)]

    def kill(self, number: int) -> int:
        """Signal the whole session, as a terminal does; return the exit status."""
        os.killpg(self.process.pid, number)
        return self.process.wait(10)

    def close(self) -> None:
        """End everything, whatever the test did."""
        for pid in (self.process.pid, *self.left):
            if stat(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(params=["child", "session"])
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Yield a small harness with a grandchild, in its parent's session or in its own."""
    started = Harness(tmp_path, request.param)
    yield started
    started.close()


def _nothing_registered() -> bool:
    return not list(registry_folder().iterdir()) and not list(
        (cache_folder() / "subnets").iterdir()
    )


def test_sigkill_of_the_harness_leaves_nothing(harness: Harness) -> None:
    """A paused server, a process that ignores SIGTERM and a grandchild are all ended."""
    assert len(harness.left) == 5
    server = harness.facts["pids"][0]
    wait_for_sync(lambda: stat(server)[0] == "T", 2, "the server is paused")
    assert harness.kill(signal.SIGKILL) == -signal.SIGKILL
    wait_for_sync(lambda: not harness.left, 10, "every process of the run to end")
    wait_for_sync(_nothing_registered, 2, "lease and registry to be free")
    assert not harness.run.data.exists()
    words = (harness.run.logs / "guardian.log").read_text()
    assert words.startswith("the harness is gone: ended 4 processes")
    Lease.acquire(subnet=harness.facts["subnet"]).close()


@pytest.mark.parametrize("harness", ["session"], indirect=True)
def test_ctrl_c_reaches_only_the_harness(harness: Harness) -> None:
    """SIGINT to the terminal's session lets the harness stop the run in order."""
    assert harness.kill(signal.SIGINT) == 130
    assert harness.left == []
    assert _nothing_registered()
    assert (harness.run.logs / "guardian.log").read_text() == ""


def test_clean_ends_what_a_killed_guardian_left(tmp_path: Path) -> None:
    """Children die with the guardian; their children are found by `harness clean`."""
    harness = Harness(tmp_path, "child")
    try:
        assert sweep() == ([], True)  # a living run is not touched
        assert len(harness.left) == 5
        os.kill(harness.facts["guardian"], signal.SIGKILL)
        harness.kill(signal.SIGKILL)
        grandchild = harness.facts["pids"][-1]
        wait_for_sync(lambda: harness.left == [grandchild], 5, "the children to die")
        done, ok = sweep()
        assert ok
        assert done == [
            "run run: ended 1 processes, removed its data",
            f"freed the lease of {harness.facts['subnet']}.0/24",
        ]
        assert harness.left == []
        assert _nothing_registered()
        assert not harness.run.data.exists()
    finally:
        harness.close()


@pytest.fixture
async def guardian(tmp_path: Path) -> Any:
    """Yield a guardian in this process."""
    run = RunFolder.create(tmp_path / "run")
    started = await Guardian.start(run, Lease.acquire())
    yield started
    await started.stop(grace=0.5)


def _python(program: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", program]


async def test_a_process_has_exactly_the_given_environment(guardian: Guardian) -> None:
    """Nothing of the user's settings reaches a process by chance; output goes to its log."""
    program = "import os; print(sorted(os.environ))"
    process = await guardian.spawn("env", _python(program), {"LC_ALL": "C", "ONE": "1"})
    assert await process.wait(5) == 0
    assert process.log == guardian.run.logs.resolve() / "env.log"
    assert process.log.read_text() == "['LC_ALL', 'ONE']\n"


async def test_ends_are_told_with_their_status(guardian: Guardian) -> None:
    """Exit codes and signals arrive as they were; a signal to an ended process does nothing."""
    quick = [
        await guardian.spawn(f"exit-{n}", _python(f"raise SystemExit({n})"), {}) for n in range(4)
    ]
    assert [await process.wait(5) for process in quick] == [0, 1, 2, 3]
    lasting = await guardian.spawn("lasting", _python("import signal; signal.pause()"), {})
    assert not guardian.died("lasting")
    lasting.signal(signal.SIGTERM)
    assert await lasting.wait(5) == -signal.SIGTERM
    assert guardian.died("lasting")
    lasting.signal(signal.SIGKILL)
    assert not guardian.died("never-started")


async def test_a_process_that_does_not_end_is_named(guardian: Guardian) -> None:
    """Waiting too long says which process, and where its log is."""
    process = await guardian.spawn("lasting", _python("import signal; signal.pause()"), {})
    with pytest.raises(WaitTimeout, match=r"lasting \(pid \d+\) ends: .*lasting\.log"):
        await process.wait(0.01)


async def test_a_missing_program_says_how_to_get_it(guardian: Guardian) -> None:
    """A name that is not on the path, and a path where nothing is, are missing parts."""
    with pytest.raises(MissingPart, match=r"nginx is not installed.*apt-get install nginx"):
        await guardian.spawn("nginx", ["nginx-of-nowhere/nginx"], {})
    with pytest.raises(MissingPart, match="no-such-program is not installed"):
        await guardian.spawn("x", ["no-such-program"], {})


async def test_a_program_that_cannot_start_is_a_users_mistake(
    guardian: Guardian, tmp_path: Path
) -> None:
    """The message has the system's reason and the command."""
    program = tmp_path / "text"
    program.write_text("no program")
    program.chmod(0o755)
    with pytest.raises(UserError, match=r"text cannot be started: Exec format error.*--flag"):
        await guardian.spawn("text", [str(program), "--flag"], {})


async def test_a_killed_guardian_takes_its_children_along(tmp_path: Path) -> None:
    """Its children die with it, their ends are noticed, and what is asked afterwards is refused."""
    guardian = await Guardian.start(RunFolder.create(tmp_path / "run"), Lease.acquire())
    process = await guardian.spawn("lasting", _python("import signal; signal.pause()"), {})
    os.kill(guardian.pid, signal.SIGKILL)
    assert await process.wait(5) == -signal.SIGKILL
    wait_for_sync(lambda: _gone(process.pid), 5, "the child to be gone")
    with pytest.raises(UserError, match="guardian was killed"):
        await guardian.spawn("next", _python(""), {})
    await guardian.stop()


async def test_a_cancelled_stop_still_ends_everything(tmp_path: Path) -> None:
    """A second Ctrl-C during the orderly end leaves the rest to the guardian."""
    guardian = await Guardian.start(RunFolder.create(tmp_path / "run"), Lease.acquire())
    process = await guardian.spawn("stubborn", _python(STUBBORN), {})
    await asyncio.to_thread(wait_for_sync, process.log.read_text, 5, "it is up")
    stopping = asyncio.create_task(guardian.stop(grace=0.2))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await asyncio.to_thread(
        wait_for_sync, lambda: guardian._program.poll() is not None, 10, "the guardian ends"
    )
    assert _gone(process.pid)
    assert _nothing_registered()


async def test_what_others_need_is_ended_last(tmp_path: Path) -> None:
    """A process marked last lives until the others have ended, and gets no SIGTERM."""
    guardian = await Guardian.start(RunFolder.create(tmp_path / "run"), Lease.acquire())
    asked = _on_sigterm("print('asked')")
    needed = await guardian.spawn("needed", _python(asked), {}, last=True)
    looks = _on_sigterm(f"os.kill({needed.pid}, 0)")
    user = await guardian.spawn("user", _python(looks), {})
    for process in (needed, user):
        await wait_for(process.log.read_text, 5, "it is up")
    await guardian.stop(grace=5)
    assert user.exit_status == 0  # it could still reach what it needs
    assert needed.exit_status == -signal.SIGKILL
    assert needed.log.read_text() == "up\n"
    assert guardian.stopped == {"stopped": 2, "killed": [], "undone": []}


def _on_sigterm(action: str) -> str:
    return (
        f"import os, signal; signal.signal(15, lambda *_: (({action}), exit_())); "
        "exit_ = lambda: os._exit(0); print('up', flush=True); signal.pause()"
    )


async def test_control_is_closed_to_children(guardian: Guardian) -> None:
    """No child inherits the control socket or the lease: a guardian must see its harness end."""
    program = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])"
    process = await guardian.spawn("fds", _python(program), {})
    assert await process.wait(5) == 0
    assert process.log.read_text() == "[0, 1, 2]\n"


async def test_the_lease_is_the_guardians(guardian: Guardian, tmp_path: Path) -> None:
    """The subnet of a living run cannot be leased, and the message names the run."""
    [path] = (cache_folder() / "subnets").iterdir()
    with pytest.raises(UserError, match=rf"run run \(guardian pid {guardian.pid}\)"):
        Lease.acquire(subnet=path.name)
    with socket.create_server((f"{path.name}.10", 6379)):
        pass  # the lease itself listens on nothing
