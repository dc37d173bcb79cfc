"""`harness reproduce` on a real bug in miniature: red where it is, green where it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from harness.bugs import record
from tests.integration.harness_cli import ROOT, command, environment

BUG = {
    "name": "no-redis-named",
    "story": "A worker is added and no Redis is named. If this fails, users miss live updates.",
    "topology": "standalone",
    "workers": 2,
    "warmup_s": 1,
    "duration_s": 3,
    "load": {"users": 2, "reads_per_s": 2, "chats": {"tokens": 5, "tokens_per_s": 10}},
    "focus": {"stops_per_s": 0, "sign_outs_per_s": 0, "canaries_per_s": 3},
    "guarantees": ["canaries-delivered"],
    "bug": {
        "symptom": "half of the users see no answers",
        "sources": ["open-webui/helm-charts#218"],
        "fails": [
            {"target": "runtime", "environment": {"REDIS_URL": None, "WEBSOCKET_MANAGER": ""}},
            {"target": "stock", "with": {"redis": "99"}, "note": "there is no such"},
        ],
        "guarantees": ["canaries-delivered"],
    },
}


@pytest.mark.slow
def test_a_bug_is_red_on_one_side_and_green_on_the_other(tmp_path: Path) -> None:
    """Both sides run once; a side that cannot run here is said by name, and all is recorded."""
    import subprocess

    folder = tmp_path / "scenarios" / "regressions"
    folder.mkdir(parents=True)
    (folder / "no-redis-named.yaml").write_text(yaml.safe_dump(BUG, sort_keys=False))
    done = subprocess.run(
        command("reproduce", "helm-charts#218", "--quiet", "--reports", tmp_path / "r"),
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    said = done.stdout + done.stderr
    assert re.search("cannot run here: .*redis==99", said), said
    counts = {entry.side: entry for entry in record.read(tmp_path / "r")}
    assert counts.keys() == {"runtime, REDIS_URL=, WEBSOCKET_MANAGER=", "runtime"}, said
    bad, good = counts["runtime, REDIS_URL=, WEBSOCKET_MANAGER="], counts["runtime"]
    assert (bad.runs, bad.red, bad.guarantees) == (1, 1, {"canaries-delivered": 1}), said
    assert (good.runs, good.green, good.against) == (1, 1, []), said
    assert done.returncode == 4, said
