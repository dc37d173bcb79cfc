"""A real Open WebUI in a real run. Skipped unless it is installed: that takes 1.7 GB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.environments.cache import environments, python_tag
from tests.integration.harness_cli import harness, only_run, scenario_text, summary

VERSION = "0.12.4"
INSTALLED = environments() / f"open-webui-{VERSION}-{python_tag()}.whole"


needs_open_webui = pytest.mark.skipif(
    not INSTALLED.exists(),
    reason=f"`harness run baseline-standalone --target open-webui=={VERSION}` installs it",
)


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_open_webui
def test_a_real_open_webui_is_driven_and_judged(tmp_path: Path) -> None:
    """Its users sign in, chat and sign out; words and events arrive; what it lacks is told."""
    scenario = tmp_path / "quick.yaml"
    focus = "{stops_per_s: 1, sign_outs_per_s: 0.5, canaries_per_s: 2}"
    load = "{users: 4, reads_per_s: 2, chats: {tokens: 10, tokens_per_s: 5}}"
    scenario.write_text(scenario_text(focus=focus, load=load))
    target = f"open-webui=={VERSION}"
    done = harness("run", scenario, "--target", target, "--reports", tmp_path / "r", timeout=350)
    said = done.stdout + done.stderr
    found = {g["name"]: g["verdict"] for g in summary(tmp_path / "r")["findings"]}  # type: ignore[attr-defined]  # JSON
    assert found["sign-in-honoured"] == found["sign-out-honoured"] == "pass", said
    assert found["tokens-exactly-once-in-order"] == found["canaries-delivered"] == "pass", said
    facts = orjson.loads((only_run(tmp_path / "r") / "run.json").read_bytes())
    assert facts["versions"]["open-webui"] == VERSION
    assert facts["capabilities"] == []
    assert (only_run(tmp_path / "r") / "logs" / "postgres.log").exists()


STAR = ("run", "star-sessions-sentinel", "--set", "duration_s=7")
STAR += ("--set", "warmup_s=1", "--set", "load.chats.tokens=18")  # stops come after 2 to 3 s
STAR += ("--set", "enough={stops: 3, sign_outs: 3, canaries_per_pair: 5}")


def _star_sessions(target: str, reports: Path) -> tuple[dict[str, str], str]:
    """Run the scenario, shorter; return the verdict of each guarantee that applies, and the log."""
    done = harness(*STAR, "--target", target, "--reports", reports, timeout=350)
    findings: list[dict[str, Any]] = summary(reports)["findings"]  # type: ignore[assignment]  # JSON
    found = {f["name"]: f["verdict"] for f in findings if f["applicable"]}
    return found, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_open_webui
def test_star_sessions_of_a_real_open_webui_break_behind_sentinel(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Whoever brings a session cookie gets an error for everything, and so does /health."""
    if not pytestconfig.getoption("--open-webui", False):
        pytest.skip("takes a minute or more: --open-webui")
    found, said = _star_sessions(f"open-webui=={VERSION}", tmp_path / "r")
    assert found["recovery"] == found["health-answers"] == "fail", said


@pytest.mark.timeout(200)
def test_star_sessions_of_the_runtime_hold_behind_sentinel(tmp_path: Path) -> None:
    """A cookie that nobody knows any more opens nothing and breaks nothing."""
    found, said = _star_sessions("runtime", tmp_path / "r")
    assert found["recovery"] == found["health-answers"] == "pass", said
    assert found["session-read-your-writes"] == found["sign-in-honoured"] == "pass", said
