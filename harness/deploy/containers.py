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

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.types import Mount
from testcontainers.core.container import DockerContainer

from harness.deploy.boxed import BoxedPart
from harness.deploy.folder import RunFolder
from harness.deploy.host import FIRST, PORTS, arguments, parse_version
from harness.deploy.model import Node, Process
from harness.deploy.run_containers import Container, RunContainers

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

# Of the pod alone; its ports are published on loopback. Redis 6.2 takes no `*` for its own dials.
EVERYWHERE = "0.0.0.0"  # noqa: S104  # nosec B104
POD_FOLDER = "/run/pod"  # in memory: a server without a port insists on a socket file
POD = ["--port", "0", "--unixsocket", f"{POD_FOLDER}/socket", "--save", ""]


class ContainerHost:
    """Starts each server in a container of its own, in the pod of the run."""

    name = "containers"

    def __init__(
        self, guardian: Guardian, run: RunFolder, image: str, others: Sequence[str] = ()
    ) -> None:
        """Make a host; images of `others` are made sure of before anything starts."""
        self.image = image
        self.version = ""
        self.containers = RunContainers(guardian, run)
        self._others = others
        self._run = run
        self._program = program_of(image)
        self._nodes: dict[str, DockerContainer] = {}
        self._pod = ""  # its id

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
        subnet = nodes[0].host.rpartition(".")[0]
        await self.containers.open(subnet, (self.image, *self._others))
        await self.containers.start(lambda: self._make_pod(nodes))

    def _make_pod(self, nodes: Sequence[Node]) -> None:
        pod = self.containers.make("pod", self.image, self._program, POD)
        pod = pod.with_tmpfs_mount(POD_FOLDER)
        # with a number alone it would publish on every address of the machine
        published: dict[str, Any] = {f"{node.port}/tcp": node.address for node in nodes}
        pod.ports = published
        pod.start()
        self._pod = pod.get_container_id()
        self.version = parse_version(pod.exec([self._program, "--version"]).output.decode())

    async def launch(self, node: Node) -> Process:
        """Start the node's container, made at its first start."""
        wrapped = await self.containers.start(lambda: self._launch(node))
        return Container(node.name, wrapped, Path(node.logfile))

    def _launch(self, node: Node) -> Any:
        known = self._nodes.get(node.name)
        if known is None:
            folders = (node.directory, Path(node.logfile).parent)
            self._nodes[node.name] = made = self.containers.make(
                node.name,
                self.image,
                self._program,
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

    def boxed(self, image: str | None) -> BoxedPart | None:
        """Return how to start another part in a container; None without an image for it."""
        return None if image is None else BoxedPart(self.containers, image)

    async def close(self) -> None:
        """Start nothing more; the guardian removes containers after all processes."""
        await self.containers.close()


def program_of(image: str) -> str:
    """Return the server's name in an image: Valkey's images call it valkey-server."""
    repository = image.rpartition("/")[2]
    return "valkey-server" if repository.startswith("valkey") else "redis-server"
