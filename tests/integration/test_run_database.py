"""A short run on PostgreSQL whose server is restarted on the way, and what it leaves."""

from __future__ import annotations

import tempfile
from pathlib import Path

import orjson
import pytest

from harness.deploy.postgres import find_program
from tests.integration.harness_cli import (
    harness,
    only_run,
    processes_naming,
    scenario_text,
    summary,
)
from tests.starved import TRIES, starved

pytestmark = pytest.mark.skipif(find_program("postgres") is None, reason="no PostgreSQL")
JUDGED = (
    "sign-out-honoured",
    "sign-out-stays",
    "no-unexplained-end",
    "tokens-exactly-once-in-order",
    "sockets-kept-and-back",
)


def folders() -> set[Path]:
    """Return the data folders of servers on this machine."""
    return set(Path(tempfile.gettempdir()).glob("harness-postgres-*"))


def test_a_run_rides_out_a_restart_of_its_database(tmp_path: Path) -> None:
    """Its guarantees hold, the fault is proven, run and report name the server, nothing stays."""
    scenario = tmp_path / "quick.yaml"
    faults = "[{at: 1.5, kind: database-restart, for_s: 1.5}]"
    scenario.write_text(
        scenario_text(
            database="postgresql",
            duration_s="9",
            faults=faults,
            guarantees=f"[{', '.join(JUDGED)}]",
        )
    )
    for number in range(TRIES):
        reports = tmp_path / str(number)
        done = harness("run", scenario, "--reports", reports, "--seed", "1")
        if not starved(said := summary(reports)):
            break
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {finding["name"]: finding for finding in said["findings"]}  # type: ignore[attr-defined,index]  # JSON
    assert findings["fault-really-happened"]["verdict"] == "pass"
    run = only_run(reports)
    database = orjson.loads((run / "run.json").read_bytes())["database"]
    assert database.startswith("PostgreSQL 1")
    assert database in (run / "report.html").read_text(encoding="utf-8")
    host = database.rpartition(" ")[2].partition(":")[0]
    assert processes_naming(host) == []
    assert not [each for each in folders() if host in _options(each)]


def _options(folder: Path) -> str:
    """Return the command line that a server keeps beside its data; nothing when it is gone."""
    path = folder / "data" / "postmaster.opts"
    return path.read_text() if path.exists() else ""
