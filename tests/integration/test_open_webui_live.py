"""A real Open WebUI in a real run. Skipped unless it is installed: that takes 1.7 GB."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from harness.environments.cache import environments, python_tag
from tests.integration.harness_cli import harness, only_run, scenario_text, summary

VERSION = "0.12.4"
INSTALLED = environments() / f"open-webui-{VERSION}-{python_tag()}.whole"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    not INSTALLED.exists(),
    reason=f"`harness run baseline-standalone --target open-webui=={VERSION}` installs it",
)
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
