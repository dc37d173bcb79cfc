"""nginx in front: its configuration, the way in, and what a scenario may say of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.deploy import balancer as module
from harness.deploy.balancer import configuration
from harness.deploy.model import Balancer, Worker
from harness.load.entry import Entry
from harness.options import RunOptions, load_with_options
from harness.plan import make_plan
from harness.run import run_plan
from harness.scenario import Scenario

ROOT = Path(__file__).parents[2]
URLS = ("http://127.16.0.50:8080", "http://127.16.0.51:8080")
ENTRY = Entry(URLS, "http://127.16.0.4:8080")
WORKERS = [Worker(n, f"127.16.0.{50 + n}", 8080, f"worker-{n}") for n in range(3)]


def config(monkeypatch: pytest.MonkeyPatch, uid: int = 1000) -> str:
    """Return the configuration that a user would get."""
    monkeypatch.setattr("os.geteuid", lambda: uid)
    return configuration(Balancer("127.16.0.4", 8080, Path("/nowhere")), WORKERS)


def test_every_worker_has_a_place_and_a_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers share least connections, and each has an upstream of its own."""
    text = config(monkeypatch)
    [balanced] = re.findall(r"upstream balanced \{(.*?)\n    \}", text, re.DOTALL)
    assert "least_conn;" in balanced
    for number in range(3):
        server = f"server 127.16.0.{50 + number}:8080;"
        assert server in balanced
        assert f"upstream worker_{number} {{ {server}" in text
        assert f"{number} worker_{number};" in text
    assert "@" not in text


def test_no_root_is_needed_and_root_keeps_its_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """`user` is for root alone: it would be a warning for others."""
    assert "\nuser " not in config(monkeypatch)
    assert "\nuser root " in config(monkeypatch, uid=0)


def test_kept_connections_close_before_the_workers_close_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Uvicorn closes idle connections after 5 s; nginx must be first in every upstream."""
    kept = re.findall(r"keepalive_timeout (\d+)s;", config(monkeypatch))
    assert len(kept) == 4
    assert {int(seconds) for seconds in kept} == {3}


def test_without_a_balancer_workers_are_dialled_and_nothing_is_pinned() -> None:
    """And nothing can be misplaced."""
    entry = Entry(URLS)
    assert (entry.url(1), entry.pin(1), entry.misplaced(1, {})) == (URLS[1], {}, "")


def test_through_a_balancer_one_url_serves_all_and_a_header_pins() -> None:
    """An operation without a worker has no pin."""
    assert ENTRY.url(1) == ENTRY.balancer
    assert ENTRY.pin(1) == {"X-Harness-Worker": "1"}
    assert ENTRY.pin(None) == {}


@pytest.mark.parametrize(
    ("header", "worker"),
    [
        ("127.16.0.51:8080", 1),
        ("127.16.0.51:8080, 127.16.0.50:8080", 0),  # a retry: the last one answered
        ("balanced", None),  # nobody could be dialled
        ("", None),
    ],
)
def test_the_answer_names_the_worker(header: str, worker: int | None) -> None:
    """By the address in X-Served-By."""
    assert ENTRY.served({"X-Served-By": header}) == worker


@pytest.mark.parametrize(
    ("worker", "header", "words"),
    [
        (1, "127.16.0.51:8080", ""),
        (None, "127.16.0.50:8080", ""),
        (1, "127.16.0.50:8080", "request for worker 1 to worker 0"),
        (None, "", "does not say"),
        (0, "10.0.0.1:8080", "does not say"),
    ],
)
def test_an_answer_from_elsewhere_is_noticed(worker: int | None, header: str, words: str) -> None:
    """A pin that was not kept, or an answer of nobody, is told."""
    said = ENTRY.misplaced(worker, {"X-Served-By": header})
    assert words in said
    assert bool(said) == bool(words)


def scenario(**changes: Any) -> Scenario:
    """Return a scenario with a fault on the balancer."""
    fields = {
        "name": "x",
        "story": "users would see nothing of this",
        "topology": "standalone",
        "balancer": "nginx",
        "faults": [{"kind": "balancer", "action": "reload", "at": 1}],
    }
    return Scenario.model_validate(fields | changes)


def test_a_fault_on_the_balancer_needs_one() -> None:
    """The message says which key to add."""
    assert scenario().faults[0].ends == 2
    with pytest.raises(ValidationError, match="add `balancer: nginx`"):
        scenario(balancer="none")


@pytest.mark.parametrize("name", ["nginx-sentinel-primary-crash", "nginx-reload", "nginx-restart"])
async def test_without_nginx_the_scenario_is_skipped_with_the_remedy(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is started, no folder is made, and the reason says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "SYSTEM_FOLDERS", str(tmp_path))
    monkeypatch.setattr("harness.deploy.parts.find_toxiproxy", lambda: tmp_path)
    options = RunOptions(reports=tmp_path / "reports")
    found = load_with_options(ROOT / f"scenarios/{name}.yaml", options)
    result = await run_plan(found, make_plan(found, 1), options, None)  # type: ignore[arg-type]  # not reached
    assert result.skipped is not None
    assert "apt-get install nginx" in result.skipped
    assert not options.reports.exists()
