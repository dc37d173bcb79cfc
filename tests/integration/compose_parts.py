"""A project of deploy/compose, started from locally built images and removed without a trace."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from harness.deploy.engine import OURS
from harness.waiting import wait_for
from tests.integration.external_parts import call

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"
READY_S = 60.0
IMAGES = {
    f"{part.upper()}_IMAGE": OURS + part for part in ("redis", "nginx", "postgres", "runtime")
}
SECRETS = ("WEBUI_SECRET_KEY", "REDIS_PASSWORD", "SENTINEL_PASSWORD", "POSTGRES_PASSWORD")


def command() -> list[str]:
    """Return the words that start compose, as a plugin or by itself; empty without it.

    An operator's .env beside the files counts for nothing: tests have variables of their own.
    """
    apart = ["--env-file", str(COMPOSE / ".env.example")]
    if found := shutil.which("docker-compose"):
        return [found, *apart]
    plugin = ["docker", "compose"]
    if shutil.which("docker") is None:
        return []
    done = subprocess.run([*plugin, "version"], capture_output=True, check=False)
    return [*plugin, *apart] if done.returncode == 0 else []


def variables(**changes: str) -> dict[str, str]:
    """Return an environment with fresh secrets and nothing else that compose files ask for."""
    made = {name: secrets.token_hex(24) for name in SECRETS}
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **made, **changes}


def free_port(host: str) -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Project:
    """One compose project with a name of its own."""

    def __init__(self, kind: str, engine: Any) -> None:
        """Choose ports and a subnet."""
        gateway = gateway_of(engine)
        self._engine = engine
        self.name = f"harness-test-{kind}-{os.getpid()}"
        self.kind = kind
        self.url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        self.provider = f"http://{gateway}:{free_port(gateway)}/v1"
        self.gateway = gateway
        _, _, port = self.url.rpartition(":")
        self._environment = variables(
            **IMAGES,
            PUBLISH=f"127.0.0.1:{port}",
            OPENAI_API_BASE_URL=self.provider.replace(gateway, "host.docker.internal"),
            SUBNET=f"172.31.{200 + os.getpid() % 50}",
            METRICS_TOKEN=secrets.token_hex(16),
            GRAFANA_PASSWORD="unused",
        )

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run compose on the project; return what it prints."""
        # One of them sends its traces, to a collector that is not there.
        files = [self.kind, *(["observability"] if self.kind == "standalone" else [])]
        named = [word for name in files for word in ("-f", str(COMPOSE / f"{name}.yml"))]
        argv = [*command(), "-p", self.name, *named, *words]
        done = subprocess.run(
            argv, env=self._environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def _container(self, service: str) -> Any:
        labels = [f"com.docker.compose.{key}" for key in ("project", "service")]
        chosen = [f"{labels[0]}={self.name}", f"{labels[1]}={service}"]
        (container,) = self._engine.containers.list(filters={"label": chosen})
        return container

    def redis(self, service: str, *words: str, port: int = 6379) -> list[str]:
        """Return the words that a node or sentinel answers."""
        line = ["redis-cli", "-p", str(port), *words]
        return str(self._container(service).exec_run(line).output.decode()).split()

    def environment(self, service: str) -> str:
        """Return the variables of a container, one `NAME=value` line each."""
        return "".join(f"{line}\n" for line in self._container(service).attrs["Config"]["Env"])

    async def ready(self) -> None:
        """Wait until an instance behind nginx says that it is ready."""
        await wait_for(self._ready, READY_S, f"{self.kind} is ready")

    async def _ready(self) -> bool:
        try:
            status, _ = await call("GET", f"{self.url}/ready")
        except (aiohttp.ClientError, OSError, ValueError):  # nobody yet, or nginx's own page
            return False
        return status == 200


def gateway_of(engine: Any) -> str:
    """Return this machine's address as containers see it: on the engine's default network."""
    config = engine.networks.get("bridge").attrs["IPAM"]["Config"]
    return str(config[0]["Gateway"])


@contextlib.asynccontextmanager
async def project(kind: str, engine: Any) -> AsyncIterator[Project]:
    """Start a project, wait until it is ready, and remove it with its volumes."""
    made = Project(kind, engine)
    try:
        made("up", "-d", "--no-build", "nginx")  # and what it depends on
        await made.ready()
        yield made
    except BaseException:
        print(made("logs", "--tail=30", check=False))  # pytest shows it with the failure
        raise
    finally:
        made("down", "-v", "--remove-orphans", "-t", "3", check=False)
