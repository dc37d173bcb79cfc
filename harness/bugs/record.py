"""reports/track-record.json: how often each side of each bug was red or green.

Every run is added when it ends, so an interrupted command loses none. Runs are counted per bug,
side, commit and content of the scenario; what a table shows is of the present content only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.files import locked, read_record, write_record

FILE = "track-record.json"
SCHEMA = 1


@dataclass(frozen=True)
class Outcome:
    """One run of one side. `astray`: red on a failing side, but not the guarantees it names."""

    bug: str
    side: str
    expected: str  # fail or pass
    content: str
    commit: str
    date: str
    seed: int
    verdict: str
    red: tuple[str, ...] = ()
    astray: bool = False
    reason: str = ""  # of an unknown one
    void: bool = False  # a part of the harness ended by itself
    run: str = ""  # the run's folder
    versions: dict[str, str] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def as_expected(self) -> bool:
        """Tell whether the run showed what its side says."""
        return self.verdict == self.expected and not self.astray


@dataclass
class Entry:
    """The runs of one side at one commit."""

    bug: str
    side: str
    expected: str
    content: str
    commit: str
    runs: int = 0
    red: int = 0
    green: int = 0
    unknown: int = 0
    astray: int = 0
    guarantees: dict[str, int] = field(default_factory=dict)  # how often each was red
    last: str = ""
    last_red: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    against: list[dict[str, Any]] = field(default_factory=list)  # every run not as expected

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.runs += 1
        kind = {"fail": "red", "pass": "green"}.get(outcome.verdict, "unknown")
        setattr(self, kind, getattr(self, kind) + 1)
        self.astray += outcome.astray
        for name in outcome.red:
            self.guarantees[name] = self.guarantees.get(name, 0) + 1
        self.last = outcome.date
        if outcome.verdict == "fail":
            self.last_red = outcome.date
        self.versions, self.host = outcome.versions or self.versions, outcome.host
        if not outcome.as_expected:
            kept = ("date", "seed", "verdict", "red", "reason")
            self.against.append({key: getattr(outcome, key) for key in kept})

    def counts(self, outcome: Outcome) -> bool:
        """Tell whether a run belongs to this entry."""
        keys = ("bug", "side", "expected", "content", "commit")
        return all(getattr(self, key) == getattr(outcome, key) for key in keys)


@dataclass(frozen=True)
class Tally:
    """The runs of one side at the scenario's present content, over all commits."""

    runs: int = 0
    red: int = 0
    green: int = 0
    unknown: int = 0
    astray: int = 0
    last: str = ""
    last_red: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def caught(self) -> int:
        """Return how often it was red with the guarantees that are named."""
        return self.red - self.astray


def read(reports: Path) -> list[Entry]:
    """Return the entries; none when nothing was recorded yet."""
    return [Entry(**entry) for entry in read_record(reports / FILE, "entries")]


def add(reports: Path, outcome: Outcome) -> None:
    """Count a run in the file; safe against other processes that do the same."""
    with locked(reports / FILE):
        entries = read(reports)
        entry = next((e for e in entries if e.counts(outcome)), None)
        if entry is None:
            names = (outcome.bug, outcome.side, outcome.expected, outcome.content, outcome.commit)
            entries.append(entry := Entry(*names))
        entry.add(outcome)
        _write(reports, entries)


def tally(entries: Iterable[Entry], bug: str, side: str, content: str) -> Tally:
    """Return the sum over commits."""
    mine = [e for e in entries if (e.bug, e.side, e.content) == (bug, side, content)]
    latest = max(mine, key=lambda entry: entry.last, default=None)
    kinds = ("runs", "red", "green", "unknown", "astray")
    return Tally(
        **{kind: sum(getattr(entry, kind) for entry in mine) for kind in kinds},
        last=latest.last if latest else "",
        last_red=max((entry.last_red for entry in mine), default=""),
        versions=latest.versions if latest else {},
    )


def _write(reports: Path, entries: list[Entry]) -> None:
    ordered = sorted(entries, key=lambda e: (e.bug, e.expected, e.side, e.content, e.commit))
    write_record(
        reports / FILE, {"schema": SCHEMA, "entries": [asdict(entry) for entry in ordered]}
    )
