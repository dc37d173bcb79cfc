"""`harness bench` and `harness compare`: real rounds in turns, saved and compared."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from harness.verdict import ExitCode
from tests.integration.harness_cli import ROOT, harness, scenario_text


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout: it runs a commit")
def test_a_round_of_two_sides(tmp_path: Path) -> None:
    """A commit's runtime and a slower one; one round each cannot show 30 %, which is said."""
    scenario, reports = tmp_path / "quick.yaml", tmp_path / "reports"
    scenario.write_text(scenario_text(guarantees="[workers-alive]", duration_s="4"))
    done = harness(
        *("bench", scenario, "--rounds", "1", "--save", "mine", "--against", "HEAD"),
        *("--target-command", "python -m tests.slower", "--reports", reports),
        timeout=170,
    )
    said = done.stdout + done.stderr
    a, b = (reports / "bench" / f"{name}.json" for name in ("mine-against", "mine"))
    before, after = (orjson.loads(path.read_bytes()) for path in (a, b))
    assert before["session"] == after["session"], said
    assert before["side"].startswith("HEAD ("), said
    assert after["side"] == "python -m tests.slower"
    assert sum(map(len, before["rounds"][0]["latencies"]["me"])) > 10, said
    assert done.returncode in (ExitCode.UNKNOWN, ExitCode.NOT_AS_EXPECTED), said

    run = after["rounds"][0]["run"]
    apart = harness("compare", "mine-against", run, "--reports", reports)
    assert "Measured at different times" in apart.stdout, apart.stdout + apart.stderr
