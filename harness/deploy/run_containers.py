"""The containers of one run, through Testcontainers: labelled, and watched like its processes.

Every container carries the labels by which the run's guardian, or `harness clean`, finds it. It
runs as the user of the harness, so that what it writes can be read, and removed, as with processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, Reaper

from harness.deploy import engine, sweeper
from harness.deploy.folder import RunFolder
from harness.deploy.guardian import started
from harness.errors import UserError
from harness.waiting import WaitTimeout

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

T = TypeVar("T")

STARTING_S = 30.0  # a start under way when the run ends
LOST = -9  # exit status of a container whose engine went away
SIGNALLED = 128  # exit codes above it are signals
TAKEN = ("port is already allocated", "address already in use")
RYUK = "TESTCONTAINERS_RYUK_DISABLED"
RYUK_REMEDY = f"Set {RYUK}=true: the run's guardian removes its containers."


class Container:
    """A server in its container, seen as a process of the run; each start is another one."""

    def __init__(self, name: str, wrapped: Any, log: Path) -> None:
        self.name = name
        self.log = log
        self.pid: int = wrapped.attrs["State"]["Pid"]
        self._wrapped = wrapped
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._status: int | None = None
        self._orders = ThreadPoolExecutor(1, f"signals-{name}")  # one thread: in their order
        threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True).start()

    @property
    def exit_status(self) -> int | None:
        """Return None while it runs, else its exit code (negative: the signal's number)."""
        return self._status

    def signal(self, number: int) -> None:
        """Have the engine send a signal; does nothing when the container is not running."""
        if self._status is None:
            self._orders.submit(self._kill, number)

    def _kill(self, number: int) -> None:
        with contextlib.suppress(*engine.ERRORS):  # ended before; a fault asks for evidence
            self._wrapped.kill(signal=int(number))

    async def wait(self, deadline: float) -> int:
        """Return the exit status; raise WaitTimeout after `deadline` seconds."""
        try:
            await asyncio.wait_for(self._ended.wait(), deadline)
        except TimeoutError:
            label = f"container {self.name} ends: not so after {deadline:.1f} s"
            raise WaitTimeout(f"{label}; its log: {self.log}") from None
        assert self._status is not None
        return self._status

    async def state(self) -> str:
        """Return the state letter that the engine's `ps` shows; nothing when it shows none."""
        try:
            shown = await asyncio.to_thread(self._wrapped.top, ps_args="-o pid,stat")
        except engine.ERRORS:
            return ""
        column = shown["Titles"].index("STAT")
        return str(shown["Processes"][0][column])[0]

    def _watch(self) -> None:
        """Wait in a thread for its end."""
        try:
            code = self.follow(self._wrapped)
        except engine.ERRORS:
            code = LOST
        status = SIGNALLED - code if code > SIGNALLED else code
        with contextlib.suppress(RuntimeError):  # the run's loop is closed
            self._loop.call_soon_threadsafe(self._end, status)

    def follow(self, wrapped: Any) -> int:
        """Return its exit code at its end; keep what a server said before it had a log."""
        code = int(wrapped.wait(timeout=None)["StatusCode"])
        with self.log.open("ab") as log:
            log.write(wrapped.logs())
        return code

    def _end(self, status: int) -> None:
        self._status = status
        self._ended.set()
        self._orders.shutdown(wait=False)


class RunContainers:
    """Makes and starts the containers of one run; the guardian removes them."""

    def __init__(self, guardian: Guardian, run: RunFolder) -> None:
        self.guardian = guardian
        self.run = run
        self._owner = ""
        self._names = ""
        self._user = ""
        self._starting: set[asyncio.Future[Any]] = set()

    async def open(self, subnet: str, images: Sequence[str]) -> None:
        """Make ready to use these images; raise MissingPart without engine or image."""
        self._owner = sweeper.owner(self.guardian.pid, started(self.guardian.pid))
        self._names = f"harness-{subnet}-{{}}"
        self.guardian.sweep_containers(engine.socket_path(), self._owner)
        await self.start(lambda: self._provide(images))

    def _provide(self, images: Sequence[str]) -> None:
        client = engine.connect()
        try:
            for image in images:
                engine.provide(client, image)
            if _wants_ryuk():
                engine.provide(client, testcontainers_config.ryuk_image, RYUK_REMEDY)
            self._user = _user(client)
        finally:
            client.close()
        os.environ.setdefault("DOCKER_HOST", engine.address())  # else Testcontainers guesses

    def make(
        self, name: str, image: str, program: str, command: Sequence[str], **options: Any
    ) -> DockerContainer:
        """Return a container that is not started; `program` empty: the image's entry point.

        An entry point of an image could drop privileges or change the arguments.
        """
        labels = {sweeper.RUN: str(self.run.root.resolve()), sweeper.OWNER: self._owner}
        settings = {"environment": {"DOCKER_HOST": engine.address()}, "timeout": engine.ANSWER_S}
        container = DockerContainer(image, docker_client_kw=settings).with_command(list(command))
        if program:
            options["entrypoint"] = [program]
        return container.with_name(self._names.format(name)).with_kwargs(
            user=self._user, labels=labels, **options
        )

    async def start(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread that `close` waits for when this is cancelled."""
        future = asyncio.get_running_loop().run_in_executor(None, work)
        self._starting.add(future)
        future.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(future)
        except engine.ERRORS as error:
            raise UserError(_refused(engine.reason(error))) from error

    async def close(self) -> None:
        """Wait for starts under way; the guardian removes containers after all processes."""
        if self._starting:
            await asyncio.wait(self._starting, timeout=STARTING_S)
        if not testcontainers_config.ryuk_disabled:
            await asyncio.to_thread(Reaper.delete_instance)


def _user(client: Any) -> str:
    """Return whom servers run as: who owns the run's folder, as the engine counts users."""
    options = client.info().get("SecurityOptions") or []
    rootless = any("rootless" in option for option in options)
    return "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"


def _wants_ryuk() -> bool:
    """Tell whether Testcontainers' own remover is asked for; else it is switched off."""
    if RYUK not in os.environ and "ryuk.disabled" not in testcontainers_config.tc_properties:
        testcontainers_config.ryuk_disabled = True
    return not testcontainers_config.ryuk_disabled


def _refused(words: str) -> str:
    if any(sign in words for sign in TAKEN):
        return (
            f"a port of the run's subnet is taken: {words}. `ss -ltnp` and `docker ps` name who has"
            " it. Stop it, or run again: each run takes a free subnet."
        )
    return f"the container engine refuses: {words}"
