"""The harness's side of the guardian: spawns processes, hears of their ends, stops them all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.clock import monotonic
from harness.deploy import guardian as guardian_program
from harness.deploy import model
from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease, cache_folder
from harness.errors import MissingPart, UserError
from harness.waiting import WaitTimeout, wait_for

START_S = 10.0
ANSWER_S = 10.0
GRACE_S = 3.0  # between SIGTERM and SIGKILL at an orderly end
LINE_LIMIT = 1 << 20
HINTS = {  # program → how to get it
    "redis-server": "run `make setup`, or `apt-get install redis-server`",
    "toxiproxy-server": "run `make setup`, or put toxiproxy-server 2.12.0 on the path",
    "nginx": "run `make setup`, or `apt-get install nginx`",
}


class Process:
    """A process of the run; a child of the guardian."""

    def __init__(self, name: str, pid: int, log: Path, guardian: Guardian) -> None:
        self.name = name
        self.pid = pid
        self.log = log
        self._guardian = guardian
        self._ended = asyncio.Event()
        self._status: int | None = None

    def __repr__(self) -> str:
        state = "running" if self._status is None else f"ended {self._status}"
        return f"<{self.name} pid {self.pid} {state}>"

    @property
    def exit_status(self) -> int | None:
        """Return None while it runs, else its exit code (negative: the signal's number)."""
        return self._status

    def signal(self, number: int) -> None:
        """Send a signal; does nothing when the process is gone.

        The guardian sends it, who alone knows whether the pid is still this process's.
        """
        if self._status is None:
            self._guardian.request({"do": "signal", "pid": self.pid, "number": int(number)})

    async def wait(self, deadline: float) -> int:
        """Return the exit status; raise WaitTimeout after `deadline` seconds."""
        try:
            await asyncio.wait_for(self._ended.wait(), deadline)
        except TimeoutError:
            label = f"{self.name} (pid {self.pid}) ends: not so after {deadline:.1f} s"
            raise WaitTimeout(f"{label}; its log: {self.log}") from None
        assert self._status is not None
        return self._status

    async def state(self) -> str:
        """Return the kernel's letter of its state, T for a stopped one; nothing when it is gone."""
        return (guardian_program.stat(self.pid) or [""])[0]

    def end(self, status: int) -> None:
        """Note its end; called by the guardian's reader."""
        if self._status is None:
            self._status = status
            self._ended.set()


class Guardian:
    """The run's guardian process, and the way to start processes under it."""

    def __init__(self, run: RunFolder, program: subprocess.Popen[bytes]) -> None:
        self.run = run
        self.pid = program.pid
        self.processes: dict[str, model.Process] = {}  # the latest of each name, boxed parts too
        self._by_pid: dict[int, Process] = {}
        self._program = program
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._writer: asyncio.StreamWriter
        self._reader: asyncio.Task[None]
        self._lost = False
        self.stopped: dict[str, Any] | None = None  # the guardian's last words

    @classmethod
    async def start(cls, run: RunFolder, lease: Lease) -> Guardian:
        """Start the guardian of a run and hand it the lease, which ends with the guardian.

        Raises UserError when it does not come up.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                guardian = cls(run, _launch(run, lease, theirs))
            lease.describe(f"run {run.root.name} (guardian pid {guardian.pid})")
        except BaseException:
            ours.close()
            raise
        finally:
            lease.close()
        reader, guardian._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        guardian._reader = asyncio.create_task(guardian._listen(reader))
        try:
            await guardian._answer(0, START_S)
        except (WaitTimeout, UserError) as error:
            await guardian.stop()
            raise UserError(f"the run's guardian did not start: {error}") from error
        except BaseException:
            await guardian.stop()
            raise
        return guardian

    async def spawn(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None = None,
        *,
        last: bool = False,
        cpus: Sequence[int] = (),
    ) -> Process:
        """Start a process with exactly the environment `env`; its output goes to logs/NAME.log.

        The program is looked up on the PATH of `env`, else of the harness; `cwd` is the harness's
        own unless given. One that others need until their end is `last`: when the run stops it
        gets SIGKILL after all others have ended. With `cpus` it runs on these processors alone.
        Raises MissingPart when there is no such program, UserError when it cannot be started.
        """
        log = (self.run.logs / f"{name}.log").resolve()
        number = next(self._numbers)
        self._replies[number] = asyncio.get_running_loop().create_future()
        request: dict[str, Any] = {"name": name, "env": dict(env), "log": str(log)}
        request |= {"argv": [find_program(argv[0], env), *argv[1:]], "last": last}
        request |= {"cwd": str((cwd or Path.cwd()).resolve()), "cpus": list(cpus)}
        self.request({"id": number, "do": "spawn", **request})
        reply = await self._answer(number, ANSWER_S)
        if "pid" not in reply:
            raise _spawn_error(name, argv, reply)
        return self._register(Process(name, reply["pid"], log, self), reply)

    def _register(self, process: Process, reply: dict[str, Any]) -> Process:
        self.processes[process.name] = process
        if "status" in reply:  # ended before this task could run
            process.end(reply["status"])
        else:
            self._by_pid[process.pid] = process
        return process

    def dismiss(self, process: Process) -> None:
        """Forget a process that has done its work: nobody is to wonder at its end."""
        self.processes.pop(process.name, None)

    def sweep_containers(self, engine: str, owner: str) -> None:
        """Have the containers with this owner removed at the end, whatever kind of end it is."""
        self.request({"do": "containers", "socket": engine, "owner": owner})

    def take_back(self, file: Path) -> None:
        """Have what `undo.py` finds in the file taken back at the end, whatever kind of end."""
        self.request({"do": "undo", "file": str(file.resolve())})

    def owns(self, folder: Path) -> None:
        """Have a folder outside the run's removed at the end, whatever kind of end; make it after.

        Processes that work in it are of the run: servers may leave the session of their parent.
        """
        self.request({"do": "folder", "path": str(folder)})

    def died(self, name: str) -> bool:
        """Tell whether the latest process of this name has ended; False when there is none."""
        process = self.processes.get(name)
        return process is not None and process.exit_status is not None

    async def stop(self, deadline: float = 30.0, grace: float = GRACE_S) -> None:
        """End every process of the run, and the guardian; raise WaitTimeout after `deadline`.

        Processes have `grace` seconds between SIGTERM and SIGKILL. When this is cancelled, the
        guardian sees the socket close and ends everything by itself.
        """
        try:
            self.request({"do": "stop", "grace": grace})
            await wait_for(self._ended, deadline, f"the guardian (pid {self.pid}) ends")
        finally:
            self._writer.close()
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._reader
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    def _ended(self) -> bool:
        return self._program.poll() is not None

    def request(self, message: dict[str, Any]) -> None:
        """Send a request; when the guardian is gone, so are its children."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _answer(self, number: int, deadline: float) -> dict[str, Any]:
        if self._lost:
            raise UserError(_lost_words(self.run))
        future = self._replies.setdefault(number, asyncio.get_running_loop().create_future())
        try:
            return await asyncio.wait_for(future, deadline)
        except TimeoutError:
            raise WaitTimeout(f"guardian's answer: none after {deadline:.0f} s") from None
        finally:
            self._replies.pop(number, None)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self._handle(json.loads(line))
        self._lose()

    def _handle(self, message: dict[str, Any]) -> None:
        if "exit" in message:
            self._child_ended(message["exit"], message["status"])
        elif "stopped" in message:
            self.stopped = message
        else:
            future = self._replies.get(message.get("id", 0))
            if future is not None and not future.done():
                future.set_result(message)

    def _child_ended(self, pid: int, status: int) -> None:
        if (process := self._by_pid.pop(pid, None)) is not None:
            process.end(status)
            return
        for future in self._replies.values():  # its spawn has been answered, not yet registered
            if future.done() and not future.cancelled() and future.result().get("pid") == pid:
                future.result()["status"] = status

    def _lose(self) -> None:
        """Note that the guardian is gone: by its parent-death signal so are its children."""
        self._lost = True
        for process in list(self._by_pid.values()):
            process.end(-9)
        self._by_pid.clear()
        for future in self._replies.values():
            if not future.done():
                future.set_exception(UserError(_lost_words(self.run)))


def _launch(run: RunFolder, lease: Lease, control: socket.socket) -> subprocess.Popen[bytes]:
    registry = registry_folder()
    registry.mkdir(parents=True, exist_ok=True)
    name = f"{run.root.resolve().name}-{os.getpid()}-{monotonic():.6f}.jsonl"
    argv = [
        *(sys.executable, "-I", "-S", guardian_program.__file__, str(control.fileno())),
        *map(str, (run.data.resolve(), registry / name, lease.path, run.root.resolve())),
    ]
    with (run.logs / "guardian.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(control.fileno(), lease.fd),
            start_new_session=True,
        )


def registry_folder() -> Path:
    """Return the folder with one file per living run, for `harness clean`."""
    return cache_folder() / "runs"


def find_program(program: str, env: Mapping[str, str]) -> str:
    """Return the program's path; raise MissingPart with the way to install it."""
    paths = [env.get("PATH"), os.environ.get("PATH", os.defpath)]
    for path in filter(None, paths):
        if found := shutil.which(program, path=path):
            return str(Path(found).absolute())
    name = Path(program).name
    hint = HINTS.get(name, "install it, or mend the command")
    raise MissingPart(f"{program} is not installed: expected it on the path; {hint}")


def _spawn_error(name: str, argv: Sequence[str], reply: dict[str, Any]) -> Exception:
    if reply["errno"] == errno.ENOENT and reply["file"] == argv[0]:
        return MissingPart(f"{argv[0]} is not installed: expected a program at this path")
    return UserError(
        f"{name} cannot be started: {reply['error']}: {reply['file']!r}; command: {' '.join(argv)}"
    )


def _lost_words(run: RunFolder) -> str:
    return (
        "the run's guardian was killed, and everything it guarded with it; run again. "
        f"Its log: {run.logs / 'guardian.log'}"
    )
