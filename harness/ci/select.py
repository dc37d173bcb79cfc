"""Which scenarios a CI job runs: by tags, then by shard, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.plan import load_seconds
from harness.scenario import Scenario

AROUND_S = 20.0  # deploy, prepare, quiesce, teardown and judging, measured with three workers
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of` parts, counted from 1."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Chosen:
    """One scenario of the job."""

    path: Path
    scenario: Scenario

    @property
    def seconds(self) -> float:
        """Return about how long a run takes."""
        return load_seconds(self.scenario) + AROUND_S


def parse_shard(text: str) -> Shard:
    """Read `i/n`; raise UserError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--shard {text}: expected I/N with 1 ≤ I ≤ N, such as --shard 2/3")
    return Shard(int(found[1]), int(found[2]))


def parse_budget(text: str) -> float:
    """Read `10m`, `90s`, `1h` or `1h30m` as seconds; raise UserError for anything else."""
    parts = re.findall(r"(\d+)([smh])", text.strip())
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    if "".join(n + u for n, u in parts) != text.strip() or not seconds:
        raise UserError(f"--budget {text}: expected a duration such as 10m, 90s or 1h30m")
    return float(seconds)


def select(
    scenarios: Iterable[Chosen], tags: Iterable[str] = (), shard: Shard = Shard()
) -> list[Chosen]:
    """Return the scenarios that have one of the tags (all when none is named), of one shard.

    Sorted by name and dealt like cards, so every scenario is in exactly one shard. Raises UserError
    for a tag that no scenario has.
    """
    everything = sorted(scenarios, key=lambda chosen: chosen.scenario.name)
    wanted, known = set(tags), {tag for c in everything for tag in c.scenario.tags}
    if unknown := sorted(wanted - known):
        raise UserError(
            f"--tags {','.join(unknown)}: no scenario has it; known tags: "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    found = [c for c in everything if not wanted or wanted & set(c.scenario.tags)]
    return found[shard.number - 1 :: shard.of]
