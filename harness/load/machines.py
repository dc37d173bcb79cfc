"""Load from other machines: their way to the workers, and the master that they connect to."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment
from harness.errors import MissingPart, UserError
from harness.load.addresses import require_allowed
from harness.load.entry import Entry
from harness.load.launch import LoadProcesses, Spawner, load_environment
from harness.load.messages import DEFAULT_PORT
from harness.load.setup import LoadSetup, remote_setup_path
from harness.network.toxiproxy import Control

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Master:
    """Where the master listens, how many load machines it waits for, and which hosts are ours.

    Worker `n` (or the balancer), then the provider, are reached at the ports after it.
    """

    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    expected: int = 1
    allowed: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, bind: str, expected: int, allowed: tuple[str, ...]) -> Master:
        """Return what the options say; raise UserError for an address that is not allowed."""
        host, port = split_address(bind)
        require_allowed([f"http://{host}:{port}"], frozenset(allowed))
        return cls(host, port, expected, frozenset(allowed))


def split_address(text: str) -> tuple[str, int]:
    """Return HOST[:PORT] as a pair; raise UserError."""
    host, colon, port = text.partition(":")
    if not host or (colon and not port.isdecimal()):
        raise UserError(f"{text}: expected HOST or HOST:PORT, such as 10.0.0.5:{DEFAULT_PORT}")
    return host, int(port) if colon else DEFAULT_PORT


async def start_machines(
    guardian: Spawner, deployment: Deployment, master: Master, run: RunFolder, clock: RunClock
) -> LoadProcesses:
    """Open ways in for load machines and start the master; they do the load.

    Raises MissingPart without Toxiproxy, UserError when an address cannot be listened at.
    """
    entry, provider = await _ways_in(deployment, master)
    share = deployment.max_rate / master.expected
    capabilities = deployment.target.capabilities
    setup = LoadSetup(entry.urls, capabilities, clock.base, entry.balancer, share, provider)
    setup.write(remote_setup_path(run))
    argv = [
        *(sys.executable, "-m", "harness.load.master", "--run", str(run.root.resolve())),
        *("--bind", master.host, "--port", str(master.port), "--expect", str(master.expected)),
    ]
    process = await guardian.spawn("load-master", argv, load_environment())
    return LoadProcesses([process], run, clock, master.expected)


async def _ways_in(deployment: Deployment, master: Master) -> tuple[Entry, str]:
    """Return the way in for load machines, and the URL of the provider.

    What is ours listens on loopback, and Toxiproxy relays to it from the master's address; to an
    external deployment load machines go by its own URLs.
    """
    local, provider = Entry.of(deployment), deployment.provider_url
    if deployment.vetted:
        return local, provider
    if not deployment.toxiproxy_url:
        raise MissingPart("--master needs Toxiproxy, which relays load machines to the workers")
    behind = [local.balancer] if local.balancer else list(local.urls)
    *relays, provider = await _relay(deployment, master, [*behind, provider])
    return Entry(local.urls, relays[0]) if local.balancer else Entry(tuple(relays)), provider


async def _relay(deployment: Deployment, master: Master, behind: list[str]) -> list[str]:
    """Return one URL at the master's address per URL behind it, with the same path."""
    ports = range(master.port + 1, master.port + 1 + len(behind))
    body = [
        {
            "name": f"entry-{n}",
            "listen": f"{master.host}:{port}",
            "upstream": urlsplit(url).netloc,
        }
        for n, (port, url) in enumerate(zip(ports, behind, strict=True))
    ]
    control = Control(f"{deployment.subnet}.2")
    try:
        await asyncio.to_thread(
            control.call, lambda api: api.post("/populate", json=body).raise_for_status()
        )
    except OSError as error:  # requests' errors are
        raise UserError(
            f"--bind {master.host}:{master.port}: cannot listen there at ports "
            f"{ports[0]} to {ports[-1]} for load machines: {error}"
        ) from error
    finally:
        control.close()
    paths = [urlsplit(url).path for url in behind]
    return [f"http://{master.host}:{p}{path}" for p, path in zip(ports, paths, strict=True)]
