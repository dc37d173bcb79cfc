"""Turns a judged run into HTML, JSON, JUnit and Markdown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.checks.judge import Judgement
    from harness.deploy.folder import RunFolder


def write_reports(run: RunFolder, judgement: Judgement) -> Path:
    """Write summary.json, junit.xml, summary.md, report.html and timeline.svg; return the page's.

    The small files come first: a history that cannot be drawn still leaves a verdict.
    """
    from harness.report import chart, html, junit, markdown, saved, summary

    about = saved.SavedRun.read(run)
    _write(run.root / "summary.json", summary.to_json(about, judgement))
    _write(run.root / "junit.xml", junit.to_xml(about.name, judgement))
    _write(run.root / "summary.md", markdown.to_markdown(about, judgement).encode())
    series = saved.fold(run, judgement)
    report = run.root / "report.html"
    picture, data = chart.timeline(series, judgement)
    _write(report, html.render(about, judgement, series, picture, data).encode())
    _write(run.root / "timeline.svg", chart.picture_alone(picture).encode())
    return report


def point_latest(reports: Path, run: RunFolder) -> None:
    """Make `reports/latest` a symbolic link to the run, in one step."""
    link, new = reports / "latest", reports / f".latest-{os.getpid()}"
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(run.root, reports), target_is_directory=True)
    new.replace(link)


def _write(path: Path, data: bytes) -> None:
    """Replace a file whole, so that a reader never sees half of it."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.replace(path)
