"""A whole traced run: its spans, the guarantees about them, the page, and another collector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.deploy.lease import Lease
from harness.history.reader import read_history
from harness.vocabulary import TRACED
from tests.integration.harness_cli import harness, only_run, scenario_text, summary
from tests.otlp import http_receiver
from tests.starved import TRIES, starved


def traced_run(folder: Path, url: str) -> tuple[Path, dict[str, Any]]:
    """Run a quick scenario on a cluster, once more when the machine had no time for it."""
    scenario = folder / "quick.yaml"
    scenario.write_text(
        scenario_text(topology="cluster", telemetry="on", guarantees=f"[{', '.join(TRACED)}]")
    )
    for number in range(TRIES):
        reports = folder / str(number)
        done = harness("run", scenario, "--reports", reports, "--otlp-forward", url, "--seed", "3")
        found = summary(reports)
        if not starved(found):
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return only_run(reports), found


@pytest.mark.slow
def test_a_traced_run_keeps_and_sends_on_its_spans(tmp_path: Path) -> None:
    """On a cluster they name every primary, and cross from worker to worker."""
    lease = Lease.acquire()
    with http_receiver(f"{lease.subnet}.9", 4318) as received:
        run, found = traced_run(tmp_path, f"http://{lease.subnet}.9:4318")
        elsewhere = {span.id for span in received.spans}
    lease.close()
    findings = {f["name"]: f for f in found["findings"] if f["name"] in TRACED}
    assert {name: f["verdict"] for name, f in findings.items()} == dict.fromkeys(TRACED, "pass")
    assert all(finding["applicable"] for finding in findings.values())
    assert findings["traces-reach-redis"]["quantities"]["servers_named"] == 3
    kept = {record["span"] for record in read_history(run / "history") if record["k"] == "span"}
    assert kept <= elsewhere
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="trace-load-0-' in page
    assert {r["harness.run"] for r in received.resources} >= {run.name}


def test_spans_go_nowhere_by_accident(tmp_path: Path) -> None:
    """A host that nobody allowed is a user's mistake, said before anything starts."""
    done = harness(
        *("run", "baseline-standalone", "--reports", tmp_path),
        *("--otlp-forward", "http://192.0.2.7:4318"),
    )
    assert done.returncode == 3
    assert "--allow-host 192.0.2.7" in done.stderr
    assert not list(tmp_path.iterdir())
