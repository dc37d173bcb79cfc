"""The files a run leaves: a planted violation must show in each of them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
from report_run import judgement, write_run
from rich.console import Console

from harness.deploy.folder import RunFolder
from harness.report import point_latest, write_reports
from harness.report.console import print_judgement
from harness.report.words import number, quantity
from harness.verdict import Verdict


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a reported run with a planted violation."""
    run = write_run(tmp_path_factory.mktemp("planted"))
    write_reports(run, judgement())
    return run


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a reported run in which everything held."""
    run = write_run(tmp_path_factory.mktemp("clean"), planted=False)
    write_reports(run, judgement(planted=False))
    return run


class Page(HTMLParser):
    """Collects ids, references and loaded resources; checks that elements nest."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element names and loads."""
        values = {key: value or "" for key, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values and tag != "link" else []
        self.loads += [values["src"]] if "src" in values else []
        self.loads += [values.get("href", "")] if tag == "link" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an empty element; it does not stay open."""
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Elements close in order."""
        assert self.open.pop() == tag


def html_of(run: RunFolder) -> str:
    """Return the report's text."""
    return (run.root / "report.html").read_text(encoding="utf-8")


def test_violation_leads_the_page(planted: RunFolder) -> None:
    """A failing run says so first: verdict, headline, and the reason of each broken guarantee."""
    head = html_of(planted).partition("</header>")[0]
    assert '<header class="fail">' in head
    assert "2 of 4 guarantees broken: deaf-time, stops-effective" in head
    assert "worker 2 heard no canary for 12.1 s (bound 2 s)" in head
    assert "exit code 1" in head


def test_violation_is_in_the_picture(planted: RunFolder) -> None:
    """Each example of a broken guarantee is a mark on the axis that leads to its operations."""
    text = html_of(planted)
    page = Page(text)
    marks = re.findall(r'<a href="#(example-[^"]+)"><path', text)
    assert marks == ["example-deaf-time-0", "example-deaf-time-1", "example-stops-effective-0"]
    assert set(marks) <= set(page.ids)
    assert text.count('class="fail"><title>worker 2 did not hear') == 1


def test_example_shows_its_operation(planted: RunFolder) -> None:
    """The operation behind an example is listed with arguments, result, times and outcome."""
    section = html_of(planted).partition('id="example-stops-effective-0"')[2]
    row = section[section.index("<tr><td><code>planted-stop") :].partition("</tr>")[0]
    for part in ("stop", "9.000 s", "200 ms", "ok", "stream=s77 by=task", "state=requested"):
        assert part in row
    assert "Not in the history as an operation: never-recorded" in section


def test_page_is_one_file(planted: RunFolder) -> None:
    """The report loads nothing: no scripts, styles, fonts or pictures from elsewhere."""
    text = html_of(planted)
    page = Page(text)
    assert page.loads == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert page.open == []


def test_every_link_leads_somewhere(planted: RunFolder) -> None:
    """Anchors exist in the page, files exist in the run."""
    page = Page(html_of(planted))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (planted.root / link).exists()
    assert "history/load-0.jsonl" in page.links
    assert len(page.ids) == len(set(page.ids))


def test_texts_of_a_run_are_escaped(planted: RunFolder) -> None:
    """Markup in a note, an error or an example stays text, in the crosshair's data as well."""
    text = html_of(planted)
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "<b>was</b>" not in text


def test_crosshair_has_all_lanes(planted: RunFolder) -> None:
    """Every lane says its value for every cell of the axis."""
    raw = re.search(r'<script type="application/json" id="lanes">(.*?)</script>', html_of(planted))
    assert raw
    data = orjson.loads(raw[1])
    names = [lane["name"] for lane in data["lanes"]]
    assert names == [
        "Faults",
        "Violations",
        "Redis roles",
        "Arrivals",
        "Load",
        "Latency",
        "Errors",
        "Deaf time",
        "Redis connections",
        "Loop stall",
        "Sent in focus",
    ]
    lengths = {len(lane["values"]) for lane in data["lanes"]}
    assert len(lengths) == 1
    at = int((9.0 - data["start"]) / data["cell"])
    said = {lane["name"]: lane["values"][at] for lane in data["lanes"]}
    assert said["Faults"] == "kill primary → redis-0"
    assert "w2 deaf to w0, w1, w2" in said["Deaf time"]
    assert "redis-0 down; redis-1 replica" in said["Redis roles"]


def test_clean_run_shows_no_violation(clean: RunFolder) -> None:
    """A passing run has the verdict pass, no violations lane and no broken guarantee."""
    text = html_of(clean)
    assert '<header class="pass">' in text
    assert "All 4 guarantees held." in text
    assert "Violations" not in text
    assert "fail</span>" not in text


def test_summary_json(planted: RunFolder) -> None:
    """summary.json has verdict, expected, outcome, exit code and every finding."""
    summary = orjson.loads((planted.root / "summary.json").read_bytes())
    assert summary["schema"] == 1
    assert (summary["verdict"], summary["expected"]) == ("fail", "pass")
    assert (summary["outcome"], summary["exit_code"]) == ("not_as_expected", 1)
    assert [f["verdict"] for f in summary["findings"]] == [
        "pass",
        "fail",
        "fail",
        "unknown",
        "pass",
    ]
    assert summary["findings"][2]["examples"][0]["operations"] == ["planted-stop", "never-recorded"]
    assert summary["rerun"] == "harness run sentinel-primary-crash --seed 7"


def test_junit(planted: RunFolder) -> None:
    """junit.xml: fail is a failure, unknown an error, not applicable skipped."""
    suite = ElementTree.parse(planted.root / "junit.xml").getroot()[0]
    kinds = {
        case.get("name"): [part.tag for part in case if part.tag != "system-out"]
        for case in suite.iter("testcase")
    }
    assert kinds == {
        "verdict": ["failure"],
        "sign-outs-honoured": [],
        "deaf-time": ["failure"],
        "stops-effective": ["failure"],
        "connections-bounded": ["error"],
        "resync-hints": ["skipped"],
    }
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("3", "1", "1")


def test_expected_failure_is_not_red(tmp_path: Path) -> None:
    """A regression that fails as its scenario expects has no failure in junit.xml, and exit 0."""
    run = write_run(tmp_path)
    judged = judgement(expected=Verdict.FAIL)
    write_reports(run, judged)
    suite = ElementTree.parse(run.root / "junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert orjson.loads((run.root / "summary.json").read_bytes())["exit_code"] == 0
    assert "expected fail → as expected, exit code 0" in html_of(run)


def test_markdown(planted: RunFolder) -> None:
    """summary.md has one whole row per guarantee, the worst first."""
    lines = (planted.root / "summary.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "## ✖ sentinel-primary-crash: fail"
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert [row.split("|")[1].strip() for row in rows] == [
        "✖ fail",
        "✖ fail",
        "? unknown",
        "✔ pass",
        "— n/a",
    ]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_the_terminal_counts_what_does_not_apply() -> None:
    """A table of what was judged, the worst first; the rest is one line, not a page of reasons."""
    out = io.StringIO()
    print_judgement(Console(file=out, width=120), "planted", judgement(), None)
    rows = [line.split()[1] for line in out.getvalue().splitlines() if line[1:2] in "✖?✔—"]
    assert rows == ["fail", "fail", "unknown", "pass", "n/a"]
    assert "1 more do not apply; the report says why." in out.getvalue()


def test_judgement_without_findings_is_reported(tmp_path: Path) -> None:
    """When judging itself crashed there are no findings and no facts, yet all files come."""
    run = write_run(tmp_path)
    write_reports(run, replace(judgement(), verdict=Verdict.UNKNOWN, findings=[], facts=None))
    assert "Nothing could be judged." in html_of(run)
    assert orjson.loads((run.root / "summary.json").read_bytes())["exit_code"] == 2


def test_run_without_facts_is_reported(tmp_path: Path) -> None:
    """A run cut short before run.json was written, with an empty history, still gets a page."""
    run = RunFolder.create(tmp_path)
    (run.root / "run.json").write_bytes(b'{"scenario": "cut-')
    judged = judgement(planted=False)
    write_reports(run, judged)
    assert "not drawn further" in html_of(run)


def test_damaged_history_still_gets_a_page(tmp_path: Path) -> None:
    """A history with a broken line costs the picture, not the verdict; file and line are named."""
    run = write_run(tmp_path)
    with (run.history / "probes.jsonl").open("ab") as file:
        file.write(b"{broken}\n")
    write_reports(run, judgement())
    text = html_of(run)
    assert "probes.jsonl:" in text
    assert "2 of 4 guarantees broken" in text


def test_latest_points_to_the_last_run(tmp_path: Path) -> None:
    """`latest` follows every new run and stays valid when the reports folder is moved."""
    reports = tmp_path / "reports"
    for name in ("first", "second"):
        run = RunFolder.create(reports / name)
        (run.root / "plan.json").write_text("{}")
        point_latest(reports, run)
    moved = reports.rename(tmp_path / "moved")
    assert (moved / "latest").is_symlink()
    assert (moved / "latest").resolve().name == "second"


def test_numbers_are_short() -> None:
    """Quantities carry units and no false precision."""
    assert quantity("deaf_time_s", 12.0812) == ("deaf time", "12.08 s")
    assert quantity("stall_ms", 310) == ("stall", "310 ms")
    assert quantity("close_s_p99", 0.5) == ("close p99", "0.500 s")
    assert quantity("stops", 3) == ("stops", "3")
    assert number(1234567) == "1 234 567"
    assert number({"w0": 1, "w1": 2.5}) == "w0 1, w1 2.50"
    assert number(None) == "—"
