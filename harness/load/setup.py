"""What a load process needs to know besides the plan and the accounts: data/load.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from harness.deploy.folder import RunFolder
from harness.files import write_whole
from harness.load.entry import Entry


@dataclass(frozen=True)
class LoadSetup:
    """The workers' URLs in order of their numbers, the target's capabilities, the run's base."""

    urls: tuple[str, ...]
    capabilities: frozenset[str]
    base: float  # CLOCK_MONOTONIC reading that the run's times count from
    balancer: str = ""  # its URL; empty: users dial the workers themselves
    max_rate: float = 0  # requests/s of each load process; 0: no limit
    provider: str = ""  # the harness's own, as workers have it

    @property
    def entry(self) -> Entry:
        """Return the way in."""
        return Entry(self.urls, self.balancer)

    def write(self, path: Path) -> None:
        """Write the file; a reader sees all of it or none."""
        fields = asdict(self) | {"capabilities": sorted(self.capabilities)}
        write_whole(path, orjson.dumps(fields))

    @classmethod
    def read(cls, run: RunFolder) -> LoadSetup:
        """Read the file."""
        raw = orjson.loads(setup_path(run).read_bytes())
        lists = {"urls": tuple(raw["urls"]), "capabilities": frozenset(raw["capabilities"])}
        return cls(**(raw | lists))


def setup_path(run: RunFolder) -> Path:
    """Return the set-up file."""
    return run.data / "load.json"


def remote_setup_path(run: RunFolder) -> Path:
    """Return the set-up file for load machines, which reach the target by other addresses."""
    return run.data / "load-remote.json"


def start_path(run: RunFolder) -> Path:
    """Return the file whose appearance starts the load; holds t0 in run seconds."""
    return run.data / "start.json"


def ready_path(run: RunFolder, number: int) -> Path:
    """Return the file that load process `number` makes when all its sockets are connected."""
    return run.data / f"load-{number}.ready"


def status_path(run: RunFolder, number: int) -> Path:
    """Return the file that load process `number` rewrites every half second."""
    return run.data / f"load-{number}.status.json"


def write_start(path: Path, t0: float) -> None:
    """Start the load: its second 0 is at `t0`, in run seconds."""
    write_whole(path, orjson.dumps({"t0": t0}))
