"""reports/deployments.json: what every run found, in the order of the runs; none is taken out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.files import locked, read_record, write_record
from harness.options import RunResult
from harness.repeat import commit, left_running, now
from harness.variants.cells import Cell

FILE = "deployments.json"
SCHEMA = 1
TRIES = 3  # of a cell whose runs prove nothing
PROVEN = ("pass", "fail")


@dataclass(frozen=True)
class Run:
    """One run of a cell. `red` are the guarantees that did not hold, or lacked evidence."""

    host: str
    scenario: str
    variant: str
    content: str
    seed: int
    verdict: str
    red: list[str]
    left_running: list[str]
    commit: str
    date: str


def of(cell: Cell, result: RunResult) -> Run:
    """Return what a judged run of a cell found."""
    assert result.judgement is not None, "the caller looked"
    findings = result.judgement.findings
    return Run(
        host=cell.host,
        scenario=cell.scenario,
        variant=cell.variant,
        content=cell.content,
        seed=cell.seed,
        verdict=str(result.judgement.verdict),
        red=[f.name for f in findings if f.applicable and f.verdict != "pass"],
        left_running=left_running(result),
        commit=commit(),
        date=now(),
    )


def read(reports: Path) -> list[Run]:
    """Return the recorded runs; none when nothing was recorded yet."""
    return [Run(**entry) for entry in read_record(reports / FILE, "runs")]


def add(reports: Path, run: Run) -> None:
    """Record a run; safe against other processes that do the same."""
    with locked(reports / FILE):
        runs = [asdict(each) for each in (*read(reports), run)]
        write_record(reports / FILE, {"schema": SCHEMA, "runs": runs})


def missing(cells: Iterable[Cell], runs: Iterable[Run]) -> Iterator[Cell]:
    """Yield the cells without a run that proves something, as long as there are tries left."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.content, []).append(run.verdict)
    for cell in cells:
        verdicts = found.get(cell.content, [])
        if len(verdicts) < TRIES and not set(PROVEN) & set(verdicts):
            yield cell
