"""Redis servers in containers, through Testcontainers: one pod of containers per run.

```
127.x.y.10:6379 … ─published─▶ pod: one network namespace, no server of its own
                                ├─ redis-0     (--network container:pod)
                                └─ sentinel-0 …
```

The pod's container publishes every port at the same number. All nodes share its network, where
the whole 127.0.0.0/8 is loopback too: the announced address is right inside and outside, and
nothing is rewritten. A node's death leaves the namespace, and so the others, alone. The node's
folder is mounted at its own path, so that files and logs are where processes have them.
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

from docker.types import Mount
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, Reaper

from harness.deploy import engine, sweeper
from harness.deploy.folder import RunFolder
from harness.deploy.guardian import started
from harness.deploy.host import FIRST, PORTS, arguments, parse_version
from harness.deploy.model import Node, Process
from harness.errors import UserError
from harness.waiting import WaitTimeout

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

T = TypeVar("T")

# Of the pod alone; its ports are published on loopback. Redis 6.2 takes no `*` for its own dials.
EVERYWHERE = "0.0.0.0"  # noqa: S104  # nosec B104
STARTING_S = 30.0  # a start under way when the run ends
LOST = -9  # exit status of a container whose engine went away
SIGNALLED = 128  # exit codes above it are signals
TAKEN = ("port is already allocated", "address already in use")
RYUK = "TESTCONTAINERS_RYUK_DISABLED"
RYUK_REMEDY = f"Set {RYUK}=true: the run's guardian removes its containers."
POD_FOLDER = "/run/pod"  # in memory: a server without a port insists on a socket file
POD = ["--port", "0", "--unixsocket", f"{POD_FOLDER}/socket", "--save", ""]


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
        """Wait in a thread for its end, and keep what the server said before it had a log."""
        try:
            code = int(self._wrapped.wait(timeout=None)["StatusCode"])
            with self.log.open("ab") as log:
                log.write(self._wrapped.logs())
        except engine.ERRORS:
            code = LOST
        status = SIGNALLED - code if code > SIGNALLED else code
        with contextlib.suppress(RuntimeError):  # the run's loop is closed
            self._loop.call_soon_threadsafe(self._end, status)

    def _end(self, status: int) -> None:
        self._status = status
        self._ended.set()
        self._orders.shutdown(wait=False)


class ContainerHost:
    """Starts each server in a container of its own, in the pod of the run."""

    name = "containers"

    def __init__(self, guardian: Guardian, run: RunFolder, image: str) -> None:
        self.image = image
        self.version = ""
        self._guardian = guardian
        self._run = run
        self._program = program_of(image)
        self._containers: dict[str, DockerContainer] = {}
        self._pod = ""  # its id
        self._starting: set[asyncio.Future[Any]] = set()

    def node(self, subnet: str, kind: str, number: int, directory: Path) -> Node:
        """Return a node at 127.x.y.10, a sentinel at 127.x.y.30, each with a port of its own."""
        name = f"{kind}-{number}"
        address = f"{subnet}.{FIRST[kind]}"
        log = str((self._run.logs / f"{name}.log").resolve())
        port = PORTS[kind] + number
        return Node(name, kind, address, port, directory, bind=EVERYWHERE, logfile=log)

    async def prepare(self, nodes: Sequence[Node]) -> None:
        """Start the pod that publishes the ports of all nodes.

        Raises MissingPart without engine or image, UserError when a port is taken.
        """
        self._owner = sweeper.owner(self._guardian.pid, started(self._guardian.pid))
        self._guardian.sweep_containers(engine.socket_path(), self._owner)
        await self._start(lambda: self._make_pod(nodes))

    def _make_pod(self, nodes: Sequence[Node]) -> None:
        client = engine.connect()
        try:
            engine.provide(client, self.image)
            if _wants_ryuk():
                engine.provide(client, testcontainers_config.ryuk_image, RYUK_REMEDY)
            self._user = _user(client)
        finally:
            client.close()
        os.environ.setdefault("DOCKER_HOST", engine.address())  # else Testcontainers guesses
        subnet = nodes[0].host.rpartition(".")[0]
        self._name = f"harness-{subnet}-{{}}"
        pod = self._container("pod", POD).with_tmpfs_mount(POD_FOLDER)
        # with a number alone it would publish on every address of the machine
        published: dict[str, Any] = {f"{node.port}/tcp": node.address for node in nodes}
        pod.ports = published
        pod.start()
        self._pod = pod.get_container_id()
        self.version = parse_version(pod.exec([self._program, "--version"]).output.decode())

    async def launch(self, node: Node) -> Process:
        """Start the node's container, made at its first start."""
        wrapped = await self._start(lambda: self._launch(node))
        return Container(node.name, wrapped, Path(node.logfile))

    def _launch(self, node: Node) -> Any:
        known = self._containers.get(node.name)
        if known is None:
            folders = (node.directory, Path(node.logfile).parent)
            self._containers[node.name] = made = self._container(
                node.name,
                arguments(node),
                network_mode=f"container:{self._pod}",
                working_dir=str(node.directory),
                mounts=[Mount(str(path), str(path), "bind") for path in folders],
            )
            wrapped = made.start().get_wrapped_container()
        else:
            wrapped = known.get_wrapped_container()
            wrapped.start()
        wrapped.reload()
        return wrapped

    def _container(self, name: str, command: list[str], **options: Any) -> DockerContainer:
        labels = {sweeper.RUN: str(self._run.root.resolve()), sweeper.OWNER: self._owner}
        settings = {"environment": {"DOCKER_HOST": engine.address()}, "timeout": engine.ANSWER_S}
        container = DockerContainer(self.image, docker_client_kw=settings).with_command(command)
        # an entry point of the image could drop privileges or change the arguments
        return container.with_name(self._name.format(name)).with_kwargs(
            entrypoint=[self._program], user=self._user, labels=labels, **options
        )

    async def _start(self, work: Callable[[], T]) -> T:
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


def program_of(image: str) -> str:
    """Return the server's name in an image: Valkey's images call it valkey-server."""
    repository = image.rpartition("/")[2]
    return "valkey-server" if repository.startswith("valkey") else "redis-server"


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
