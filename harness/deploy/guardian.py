"""The guardian process: parent of every process of a run, and the one who ends them all.

Run by path with `python -I -S`, standard library only, single-threaded. The harness talks to it
over a socket pair, one JSON object a line:

    {"id": 1, "do": "spawn", "name", "argv", "env", "cwd", "log", "last", "cpus"} → {"id": 1, "pid"}
                                                     or {"id": 1, "errno", "error", "file"}
    {"do": "signal", "pid", "number"}                → nothing; only a living child is signalled
    {"do": "containers", "socket", "owner"}          → nothing; their engine, and their label
    {"do": "undo", "file"}                           → nothing; what to take back, see undo.py
    {"do": "folder", "path"}                         → nothing; to be removed at the end
    {"do": "stop", "grace"}              → {"stopped": number, "killed": [pid, …], "undone": […]}
    a child that ended                               → {"exit": pid, "status"}

At end of file the harness is gone, however that came about: everything is ended, the run's data
folder removed, and the lease freed by the guardian's own end. Containers are removed by their label
after the processes, at every kind of end.

Why a process: its children's parent-death signal must not hang on a thread, orphans must find a
parent that still knows the run (subreaper), and Ctrl-C must not reach it. Why not markers in the
environment: redis and nginx write their process title over it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

IPC_RMID = 0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHAN_GRACE_S = 1.5  # between SIGTERM and SIGKILL when the harness is gone
SWEEP_S = 20.0
UNDO_S = 20.0
STUCK_S = 20.0  # after so long a process is stuck in the kernel, and only its name can be told
PERIOD_S = 0.01
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Serve until told to stop or until the harness is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    data, registry, lease, folder = (Path(argument) for argument in sys.argv[2:])
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with control, Registry(registry, folder, lease.name) as entries:
        Guardian(control, data, entries).serve()
        lease.unlink(missing_ok=True)  # still locked: the descriptor was inherited


class Registry:
    """The run's entry in the cache: who guards what, for `harness clean` after the guardian died.

    One JSON object a line: the guardian first, then each child. Removed at an orderly end.
    """

    def __init__(self, path: Path, folder: Path, subnet: str) -> None:
        self._path = path
        self._file = path.open("w", encoding="utf-8")
        pid = os.getpid()
        self._add(guardian=pid, started=started(pid), subnet=subnet, folder=str(folder))

    def child(self, pid: int, name: str) -> None:
        """Add a child; it leads a session of its own, so its pid names its offspring too."""
        self._add(name=name, pid=pid, started=started(pid))

    def made(self, path: str) -> None:
        """Add a folder outside the run's that goes with the run; its processes work in it."""
        self._add(made=path)

    def _add(self, **entry: Any) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class Guardian:
    """The loop over the control socket and the children's ends."""

    def __init__(self, control: socket.socket, data: Path, registry: Registry) -> None:
        self._control = control
        self._data = data
        self._registry = registry
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._last: set[int] = set()  # ended after all others, by SIGKILL
        self._engine: list[str] = []  # arguments of the sweeper, once there are containers
        self._folders: list[str] = []  # outside the run's; removed at every kind of end
        self._undo = ""  # the file of what to take back in a deployment that is not the run's
        self._buffer = b""
        self._done = False

    def serve(self) -> None:
        """Answer requests and tell ends until everything is ended."""
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with reader, writer, selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ, self._read)
            selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(4096))
            self._send({"guardian": os.getpid()})
            while not self._done:
                for key, _ in selector.select():
                    key.data()
                self._reap()
            signal.set_wakeup_fd(-1)

    def _read(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self._orphaned()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, request: dict[str, Any]) -> None:
        if request["do"] == "spawn":
            self._send({"id": request["id"], **self._spawn(request)})
        elif request["do"] == "signal":
            self._signal(request["pid"], request["number"])
        elif request["do"] == "containers":
            self._engine = [request["socket"], request["owner"]]
        elif request["do"] == "undo":
            self._undo = request["file"]
        elif request["do"] == "folder":
            self._folders.append(request["path"])
            self._registry.made(request["path"])
        else:
            ended, killed = self._end_all(request["grace"])
            self._remove_folders()
            self._sweep()
            self._send({"stopped": ended, "killed": killed, "undone": self._take_back()})
            self._done = True

    def _signal(self, pid: int, number: int) -> None:
        """Signal a child that was not reaped yet: its pid cannot have been given to another."""
        if pid in self._children:
            os.kill(pid, number)

    def _spawn(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with Path(request["log"]).open("ab") as log:
                child = subprocess.Popen(
                    request["argv"],
                    env=request["env"],
                    cwd=request["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a terminal's Ctrl-C is for the harness alone
                    preexec_fn=partial(_before_exec, request["cpus"]),  # safe: no threads here
                )
        except OSError as error:
            return {"errno": error.errno, "error": error.strerror, "file": error.filename}
        self._children[child.pid] = child
        if request["last"]:
            self._last.add(child.pid)
        self._registry.child(child.pid, request["name"])
        return {"pid": child.pid}

    def _reap(self) -> None:
        """Collect every child that ended, adopted ones too, and tell of the own ones."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, raw = ended
                if (child := self._children.pop(pid, None)) is not None:
                    self._last.discard(pid)
                    child.returncode = os.waitstatus_to_exitcode(raw)
                    self._send({"exit": pid, "status": child.returncode})

    def _end_all(self, grace: float) -> tuple[int, list[int]]:
        """SIGTERM to all descendants but the last ones, SIGKILL to those and to who lives on.

        Returns how many ended, and who of the others than the last ones needed SIGKILL.
        """
        last = set(self._last)
        asked = self._end_within(grace, signal.SIGTERM, last)
        killed = self._end_within(STUCK_S, signal.SIGKILL, set())
        return len(asked | killed), sorted(killed - last)

    def _end_within(self, seconds: float, number: int, spared: set[int]) -> set[int]:
        """Signal each descendant once, new ones as they appear, until none is left or time is up.

        A stopped process gets SIGCONT as well, or it would never see SIGTERM. Returns the pids.
        """
        signalled: set[int] = set()
        deadline = time.monotonic() + seconds
        while left := set(descendants(os.getpid())) - spared:
            for pid in left - signalled:
                _kill(pid, number)
                _kill(pid, signal.SIGCONT)
            signalled |= left
            if time.monotonic() > deadline:
                break
            time.sleep(PERIOD_S)
            self._reap()
        self._reap()
        return signalled

    def _remove_folders(self) -> None:
        for folder in self._folders:
            remove_made(Path(folder))

    def _sweep(self) -> None:
        """Remove the run's containers, in a process of its own: the engine may hang."""
        if not self._engine:
            return
        argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("sweeper.py"))]
        with contextlib.suppress(subprocess.TimeoutExpired):  # told in the log; clean finds them
            subprocess.run([*argv, *self._engine], timeout=SWEEP_S, check=False)

    def _take_back(self) -> list[str]:
        """Heal links and remove accounts of an external deployment; return what was done."""
        if not self._undo:
            return []
        argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("undo.py")), self._undo]
        try:
            done = subprocess.run(argv, timeout=UNDO_S, check=False, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            return [f"the external deployment did not answer for {UNDO_S:g} s: nothing is known"]
        with contextlib.suppress(OSError):  # the harness is told anyway, also when the disk is full
            print(done.stdout, done.stderr, sep="", end="", flush=True)
        return done.stdout.splitlines()

    def _orphaned(self) -> None:
        ended, killed = self._end_all(ORPHAN_GRACE_S)
        self._remove_folders()
        self._take_back()
        self._sweep()
        shutil.rmtree(self._data, ignore_errors=True)
        left = list(descendants(os.getpid()))
        print(
            f"the harness is gone: ended {ended} processes, {len(killed)} of them by SIGKILL; "
            f"{len(left)} left {left or ''}",
            flush=True,
        )
        self._done = True

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return  # the harness is gone: the read side sees it too, and acts


def _before_exec(cpus: list[int]) -> None:
    """In the child: its processors, default signals again, and die with the guardian.

    No `cpus` means those of the guardian.
    """
    if cpus:
        os.sched_setaffinity(0, cpus)  # before its first thread, so that all have it
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        guardian = os.getppid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guardian:  # it died between fork and prctl
            os.kill(os.getpid(), signal.SIGKILL)


def descendants(root: int) -> Iterator[int]:
    """Yield the pids of all processes below `root` that are not zombies."""
    children: dict[int, list[tuple[int, str]]] = {}
    for pid, parent, state in _processes():
        children.setdefault(parent, []).append((pid, state))
    parents = [root]
    while parents:
        for pid, state in children.get(parents.pop(), ()):
            parents.append(pid)
            if state != "Z":
                yield pid


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield (pid, parent, state) of every process."""
    for entry in os.listdir("/proc"):  # noqa: PTH208  # a third of the time
        if entry.isdigit() and (fields := stat(int(entry))):
            yield int(entry), int(fields[1]), fields[0]


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; nothing for a process that is gone."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return content.rpartition(")")[2].split()


def started(pid: int) -> int:
    """Return the process's start in clock ticks since boot, 0 when it is gone.

    Pid and start together name one process until the next boot.
    """
    fields = stat(pid)
    return int(fields[19]) if fields else 0


def remove_made(folder: Path) -> None:
    """Remove a folder that was made for a run, and the memory that its dead server left behind.

    PostgreSQL tells key and number of its System V segment in `postmaster.pid`, and removes both
    when it ends in order. After SIGKILL the segment stays until the machine starts anew, and there
    are 4096 at most. One that somebody still uses, or of another key, is not touched.
    """
    with contextlib.suppress(OSError, IndexError):
        words = (folder / "data/postmaster.pid").read_text(encoding="utf-8").splitlines()[6].split()
        for key, number, _perms, _size, _cpid, _lpid, users, *_ in shared_segments():
            if [key, number] == words and users == "0":
                _libc.shmctl(int(number), IPC_RMID, None)
    shutil.rmtree(folder, ignore_errors=True)


def shared_segments() -> Iterator[list[str]]:
    """Yield the fields of every System V shared memory segment."""
    for line in Path("/proc/sysvipc/shm").read_text(encoding="utf-8").splitlines()[1:]:
        yield line.split()


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    main()
