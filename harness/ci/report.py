"""What a CI server shows of a job: one junit.xml, one summary.md, the worst run's timeline."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.ci.job import Entry, code_of_job
from harness.report.markdown import cell
from harness.report.words import headline
from harness.verdict import ExitCode

if TYPE_CHECKING:
    from junitparser import TestSuite
    from junitparser.junitparser import FinalResult

    from harness.deploy.folder import RunFolder

ICONS = {"passed": "✔", "failed": "✖", "unknown": "?", "flaky": "⚠", "skipped": "—"}
PICTURE = "timeline.svg"
NOT_STARTED = "It did not start; the job's log says why."


def write_job(folder: Path, entries: list[Entry]) -> None:
    """Write the files of a job into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "junit.xml").write_bytes(to_xml(entries))
    worst = worst_entry(entries)
    pictured = worst is not None and _copy_picture(worst.worst.run, folder)
    (folder / "summary.md").write_text(
        to_markdown(folder, entries, worst if pictured else None), encoding="utf-8"
    )


def worst_entry(entries: list[Entry]) -> Entry | None:
    """Return the entry to look at first: failed, then flaky, then unknown, then any that ran."""
    order = ("failed", "flaky", "unknown", "passed")
    ran = [entry for entry in entries if entry.runs]
    return min(ran, key=lambda entry: order.index(entry.status), default=None)


def to_xml(entries: list[Entry]) -> bytes:
    """Return one junit.xml for all scenarios: a suite each, as their own files have it.

    A flaky scenario is an error, so that no server shows it green; a skipped one is skipped.
    """
    from junitparser import JUnitXml

    suites = JUnitXml("harness ci")
    for entry in entries:
        for suite in _suites(entry):
            suites.add_testsuite(suite)
    suites.update_statistics()  # type: ignore[no-untyped-call]  # library lacks it
    return bytes(suites.tostring())  # type: ignore[no-untyped-call]  # library lacks it


def _suites(entry: Entry) -> list[TestSuite]:
    from junitparser import JUnitXml, TestCase, TestSuite

    name = entry.chosen.scenario.name
    run = entry.runs[-1].run if entry.runs else None
    if run is not None and not entry.flaky:
        return list(JUnitXml.fromfile(str(run.root / "junit.xml")))
    case = TestCase("verdict", classname=name)
    case.result = [_result(entry)]
    suite = TestSuite(name)
    suite.add_testcase(case)
    return [suite]


def _result(entry: Entry) -> FinalResult:
    from junitparser import Error, Failure, Skipped

    if not entry.runs:
        return Skipped(entry.skipped)
    return Error(_flaky(entry), "flaky") if entry.flaky else Failure(NOT_STARTED, "not_started")


def to_markdown(folder: Path, entries: list[Entry], pictured: Entry | None) -> str:
    """Return summary.md: one row a scenario, and the timeline of the worst run."""
    code = code_of_job(entries)
    counts = [f"{n} {s}" for s in ICONS if (n := sum(e.status == s for e in entries))]
    icon = {ExitCode.AS_EXPECTED: "✔", ExitCode.NOT_AS_EXPECTED: "✖"}.get(code, "?")
    lines = [
        f"## {icon} harness ci: {', '.join(counts) or 'no scenario'} (exit code {int(code)})",
        "",
        "| | scenario | what the evidence says | runs |",
        "|---|---|---|---|",
        *(_row(folder, entry) for entry in entries),
        "",
    ]
    if pictured is not None:
        name = pictured.chosen.scenario.name
        lines += [f"The timeline of {name} ({pictured.status}):", "", f"![{name}]({PICTURE})", ""]
    return "\n".join(lines)


def _row(folder: Path, entry: Entry) -> str:
    said = entry.skipped or _flaky(entry) if entry.flaky or not entry.runs else _said(entry)
    roots = [run.run.root for run in entry.runs if run.run]
    links = ", ".join(
        f"[{root.name}]({os.path.relpath(root / 'report.html', folder)})" for root in roots
    )
    name = entry.chosen.scenario.name
    return f"| {ICONS[entry.status]} {entry.status} | {name} | {cell(said)} | {links} |"


def _said(entry: Entry) -> str:
    judgement = entry.runs[-1].judgement
    return headline(judgement) if judgement else NOT_STARTED


def _flaky(entry: Entry) -> str:
    first = entry.runs[0].judgement if entry.runs else None
    return (
        f"Red once, not the second time. The red run: {headline(first) if first else NOT_STARTED}"
    )


def _copy_picture(run: RunFolder | None, folder: Path) -> bool:
    if run is None or not (run.root / PICTURE).is_file():
        return False
    shutil.copyfile(run.root / PICTURE, folder / PICTURE)
    return True
