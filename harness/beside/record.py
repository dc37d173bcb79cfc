"""reports/open-webui.json: what every run found, taken from the run's own files.

A run stands in it once, under its scenario, target, plan and seed; a later run of the same replaces
it, unless that one has no verdict. Everything in the tables comes from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from harness.beside.cells import Key, content_of
from harness.errors import UserError
from harness.files import locked, read_record, write_record
from harness.repeat import commit, now

FILE = "open-webui.json"
SCHEMA = 1
VERSIONS = ("python", "open-webui", "redis", "python-socketio", "redis-server")


@dataclass(frozen=True)
class Run:
    """One run. `findings` are those that apply: name → verdict, reason, quantities."""

    scenario: str
    target: str
    content: str
    seed: int
    verdict: str
    findings: dict[str, dict[str, Any]]
    commit: str
    date: str
    versions: dict[str, str]
    rerun: str

    @property
    def key(self) -> Key:
        """Return what it is known by."""
        return self.scenario, self.target, self.content, self.seed


def take(folder: Path) -> Run:
    """Return what a run's folder says; raise UserError when it has no judgement."""
    try:
        plan, about, summary = (
            orjson.loads((folder / name).read_bytes())
            for name in ("plan.json", "run.json", "summary.json")
        )
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError(f"{folder}: expected a judged run with its files; {error}") from error
    versions = about.get("versions", {})
    return Run(
        scenario=summary["scenario"],
        target=summary["target"],
        content=content_of(plan),
        seed=summary["seed"],
        verdict=summary["verdict"],
        findings={f["name"]: _finding(f) for f in summary["findings"] if f["applicable"]},
        commit=commit(),
        date=now(),
        versions={name: versions[name] for name in VERSIONS if name in versions},
        rerun=summary["rerun"],
    )


def _finding(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: raw[key] for key in ("verdict", "reason", "quantities")}


def read(reports: Path) -> list[Run]:
    """Return the recorded runs; none when nothing was recorded yet."""
    return [Run(**entry) for entry in read_record(reports / FILE, "runs")]


def add(reports: Path, runs: Iterable[Run]) -> None:
    """Record runs; safe against other processes that do the same."""
    with locked(reports / FILE):
        known = {run.key: run for run in read(reports)}
        known |= {run.key: run for run in runs}
        _write(reports, known.values())


def _write(reports: Path, runs: Iterable[Run]) -> None:
    ordered = sorted(runs, key=lambda run: (run.scenario, run.target, run.seed, run.content))
    write_record(reports / FILE, {"schema": SCHEMA, "runs": [asdict(run) for run in ordered]})
