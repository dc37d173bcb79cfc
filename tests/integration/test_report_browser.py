"""The report in a real browser: its script runs and the crosshair tells every lane."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))
from report_run import judgement, traced_run, write_run

from harness.report import write_reports

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=2000",
    "--window-size=1300,1000",
)
POINT = """<script>
  const frame = document.getElementById("timeline").getBoundingClientRect();
  document.getElementById("timeline").dispatchEvent(new MouseEvent("mousemove", {
    clientX: frame.left + frame.width * SHARE, clientY: frame.top + 100, bubbles: true}));
</script></body>"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: the script of the report is not run")
@pytest.mark.slow
def test_crosshair_tells_all_lanes_at_one_time(tmp_path: Path) -> None:
    """Pointing at the fault shows its time, the fault, the roles and who is deaf, all at once."""
    run = write_run(tmp_path / "run")
    page = write_reports(run, judgement())
    share = (210 + (9.25 / 28) * (1240 - 210 - 24)) / 1240
    text = page.read_text(encoding="utf-8").replace("</body>", POINT.replace("SHARE", str(share)))
    page.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    box = done.stdout.partition('<div id="hover"')[2].partition("<script")[0]
    assert "visibility: visible" in box, done.stderr
    for said in ("9.2", "kill primary → redis-0", "redis-0 down", "w2 deaf to w0, w1, w2"):
        assert said in box


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: the script of the report is not run")
@pytest.mark.slow
def test_a_link_to_a_trace_opens_it(tmp_path: Path) -> None:
    """Traces are folded; who follows a link sees the one meant, and only that."""
    page = write_reports(traced_run(tmp_path / "run"), judgement())
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    shown = []
    for fragment in ("", "#trace-load-9-1"):
        done = subprocess.run(
            [*command, page.as_uri() + fragment], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.count('<details class="trace"') == 2, done.stderr
        shown.append(done.stdout.count('<details class="trace" open'))
    assert shown == [0, 1]


PHONE = """<!doctype html><title>nothing</title>
<iframe width="400" height="800" src="page.html"></iframe>
<script>addEventListener("message", event => { document.title = event.data; });</script>"""
TELL = """<script>addEventListener("load", () => {
  const right = [...document.querySelectorAll("section, header, #guarantees .chip")].map(
    part => part.getBoundingClientRect().right);
  parent.postMessage(`right ${Math.max(...right)} of ${innerWidth}`, "*"); });
</script></body>"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: the report is not laid out")
@pytest.mark.slow
def test_a_phone_shows_everything_without_scrolling_sideways(tmp_path: Path) -> None:
    """At 400 pixels no section, and nothing that a guarantee measured, reaches beyond the edge."""
    page = write_reports(traced_run(tmp_path / "run"), judgement())
    text = page.read_text(encoding="utf-8").replace("</body>", TELL)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    phone = tmp_path / "phone.html"  # no window is that narrow, but a frame is
    phone.write_text(PHONE, encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, phone.as_uri()], capture_output=True, text=True, timeout=60)
    told = re.search(r"<title>right ([\d.]+) of (\d+)", done.stdout)
    assert told, done.stdout + done.stderr
    assert int(told[2]) == 400
    assert float(told[1]) <= 400
