"""The track record in the README and the list of bugs in docs/bugs.md, made of what is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.bugs.find import KnownBug
from harness.bugs.record import Entry, Tally, tally
from harness.bugs.reproduce import cases
from harness.pages import markdown_table

CATALOGUE = Path(__file__).parent / "catalogue.yaml"
RECORD_MARKS = ("<!-- track record -->", "<!-- end of track record -->")
LIST_MARKS = ("<!-- bugs -->", "<!-- end of bugs -->")
NOT_BUILT = "not built yet"


@dataclass(frozen=True)
class Known:
    """One entry of the catalogue; `reason` says why no scenario shows it."""

    slug: str
    title: str
    reason: str = NOT_BUILT


def catalogue() -> list[Known]:
    """Return the bugs that broke real deployments, whether a scenario shows them or not."""
    return [Known(**entry) for entry in yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))]


def source_link(source: str) -> str:
    """Return a source as a link; GitHub sends an issue's address on when it is a pull request."""
    repository, sign, number = source.partition("#")
    if "://" in source or not sign:
        return f"[{source.partition('://')[2].partition('/')[0]}]({source})"
    name = repository.rpartition("/")[2]
    return f"[{name}#{number}](https://github.com/{repository}/issues/{number})"


def list_table(bugs: Sequence[KnownBug]) -> str:
    """Return the table of all known bugs: its scenario, or the reason why there is none."""
    shown = {bug.slug: bug for bug in bugs}
    known = catalogue()
    rows = []
    for entry in known:
        link = f"[scenario](../scenarios/regressions/{entry.slug}.yaml)"
        said = link if entry.slug in shown else entry.reason.strip()
        rows.append((f"`{entry.slug}`", entry.title, said))
    for slug in sorted(shown.keys() - {entry.slug for entry in known}):
        symptom = " ".join(shown[slug].bug.symptom.split())
        link = f"[scenario](../scenarios/regressions/{slug}.yaml)"
        rows.append((f"`{slug}`", symptom, link))
    return "\n".join(markdown_table(("bug", "what broke", "shown by, or why not"), rows))


def record_table(bugs: Iterable[KnownBug], entries: Sequence[Entry]) -> str:
    """Return the track record: a row for each bug, a line in it for each side."""
    header = ("bug", "sources", "guarantee", "fails on", "passes on", "last reproduced")
    rows = []
    for bug in bugs:
        red, green = (_sides(bug, entries, which) for which in ("fails", "passes"))
        sources = ", ".join(source_link(source) for source in bug.bug.sources[:2])
        name = f"[{bug.slug}](scenarios/regressions/{bug.slug}.yaml)"
        guarantees = ", ".join(bug.bug.guarantees)
        rows.append((name, sources, guarantees, red, green, _last(bug, entries)))
    return "\n".join(markdown_table(header, rows))


def _sides(bug: KnownBug, entries: Sequence[Entry], which: str) -> str:
    said = []
    for case in cases(bug, which):
        counts = tally(entries, bug.slug, case.side.label, bug.content)
        label = case.side.label.replace("faults=[]", "no fault")
        said.append(f"{label}: {rate(case.expected, counts)}")
    return "<br>".join(said)


def rate(expected: str, counts: Tally) -> str:
    """Return how often a side was as it should be, and in bold what speaks against it."""
    if not counts.runs:
        return "not run"
    colour, number = ("red", counts.caught) if expected == "fail" else ("green", counts.green)
    said = f"{colour} {number} of {counts.runs}"
    if expected == "pass" and counts.red:
        said += f", **red {counts.red}**"
    if counts.astray:
        said += f", **another guarantee red {counts.astray}**"
    return said + (f", unknown {counts.unknown}" if counts.unknown else "")


def _last(bug: KnownBug, entries: Sequence[Entry]) -> str:
    """Return the day of the last red run of a failing side, and the versions it had."""
    counts = [
        tally(entries, bug.slug, case.side.label, bug.content) for case in cases(bug, "fails")
    ]
    latest = max(counts, key=lambda tally: tally.last_red)
    if not latest.last_red:
        return "never"
    names = ("redis-server", "redis", "python-socketio")
    had = ", ".join(f"{name} {latest.versions[name]}" for name in names if name in latest.versions)
    return f"{latest.last_red[:10]}; {had}"
