"""Toxiproxy and nginx in containers: on the machine's own network, at the addresses of processes.

They stand between the users, the workers and Redis, so that their addresses, and what the kernel's
tables tell of their connections, have to be the same on both hosts. Only the program comes from an
image; its folder is mounted at its own path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.types import Mount
from testcontainers.core.container import DockerContainer

from harness.deploy.model import Process
from harness.deploy.run_containers import Container, RunContainers


class Box(Container):
    """A program in its container; its log grows while it runs, as a process's does."""

    def follow(self, wrapped: Any) -> int:
        """Return its exit code at its end; keep what it says."""
        with self.log.open("ab", buffering=0) as log:
            for said in wrapped.logs(stream=True, follow=True):
                log.write(said)
        return int(wrapped.wait(timeout=None)["StatusCode"])


class BoxedPart:
    """Starts one part of a run from an image, the first time and again."""

    def __init__(self, containers: RunContainers, image: str) -> None:
        self.image = image
        self._containers = containers
        self._made: DockerContainer | None = None

    async def launch(
        self,
        name: str,
        command: Sequence[str],
        *,
        program: str = "",
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start it in a new container; `program` empty: the image's entry point.

        `folder` is mounted, and where it starts. Raises UserError when the engine refuses.
        """
        options: dict[str, Any] = {"network_mode": "host"}
        if folder is not None:
            options["mounts"] = [Mount(str(folder), str(folder), "bind")]
            options["working_dir"] = str(folder)
        made = self._containers.make(name, self.image, program, command, **options)
        made.with_envs(**(environment or {}))
        wrapped = await self._containers.start(lambda: self._start(made))
        log = (self._containers.run.logs / f"{name}.log").resolve()
        box = Box(name, wrapped, log)
        self._containers.guardian.processes[name] = box  # probes look there
        return box

    def _start(self, made: DockerContainer) -> Any:
        if self._made is not None:  # it has the name
            self._made.stop()
        self._made = made
        wrapped = made.start().get_wrapped_container()
        wrapped.reload()
        return wrapped

    async def output(self, words: Sequence[str]) -> str:
        """Run a command in the running container and return what it prints."""
        assert self._made is not None, "launch comes first"
        made = self._made
        done = await self._containers.start(lambda: made.exec(list(words)))
        return str(done.output.decode(errors="replace"))
