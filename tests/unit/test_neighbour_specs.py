"""The scenario key `neighbour`: what it may be with, and what the second deployment is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.changes import changed, parse_overrides
from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Link, Node, Worker
from harness.deploy.workers import FIRST_HOST
from harness.errors import UserError
from harness.history.records import Record
from harness.history.writer import HistoryWriter
from harness.neighbour import beside, done
from harness.neighbour_specs import Neighbour
from harness.options import RunOptions, load_with_options
from harness.plan import make_plan
from harness.scenario import Scenario
from harness.targets import get_target

TWINS = Path(__file__).parents[2] / "scenarios/negative/twins-on-one-prefix.yaml"


def scenario(**more: Any) -> Scenario:
    """Return a scenario with a neighbour."""
    base = {"name": "two", "story": "Two installations share a Redis.", "topology": "standalone"}
    return Scenario.model_validate({**base, "neighbour": {}, **more})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"redis": {"auth": "acl"}}, "no ACL users of its own"),
        ({"redis": {"absent_at_boot_s": 3}}, "needs Redis at its start"),
    ],
)
def test_what_a_neighbour_cannot_be_with_is_refused(more: dict[str, Any], words: str) -> None:
    """The message says which key has to change."""
    with pytest.raises(ValueError, match=words):
        scenario(**more)


def test_the_counterparts_command_changes_the_neighbours_variables_alone() -> None:
    """As it stands in the scenario's file: the same plan, another prefix next door, and green."""
    pairs = ("neighbour.environment.REDIS_KEY_PREFIX=other", "expected_red=[]", "expected=pass")
    options = RunOptions(seed=1, overrides=parse_overrides(pairs))
    green = load_with_options(TWINS, options)
    assert all(f"--set {pair}" in TWINS.read_text(encoding="utf-8") for pair in pairs)
    assert green.neighbour == Neighbour(
        workers=1, users=4, environment={"REDIS_KEY_PREFIX": "other"}
    )
    assert (green.environment, green.expected) == ({}, "pass")
    red = load_with_options(TWINS, RunOptions(seed=1))
    assert make_plan(green, 1).timetable == make_plan(red, 1).timetable


def test_an_unknown_key_of_the_neighbour_is_refused() -> None:
    """By its name, as everywhere."""
    with pytest.raises(UserError, match="neighbour"):
        changed(scenario(), {"neighbour.wrokers": 2})


def test_the_neighbour_shares_redis_and_nothing_else(tmp_path: Path) -> None:
    """Its workers have addresses, names, variables and a provider of their own, and no links."""
    first = Deployment("standalone", get_target(), "127.9.9")
    first.nodes.append(Node("redis-0", "redis", "127.9.9.10", 6379, tmp_path))
    first.workers = [Worker(n, f"127.9.9.{FIRST_HOST + n}", 8080, f"worker-{n}") for n in range(32)]
    first.links = [Link("w0-redis-0", 0, "redis-0", ("127.9.9.2", 7000), ("127.9.9.10", 6379))]
    first.variables = {"A": "1", "B": "2"}
    first.provider_url = "http://127.9.9.3:9000/v1"
    twin = beside(first, Neighbour(workers=4, environment={"B": "3", "C": None}))
    assert twin.nodes is first.nodes
    assert not {w.address for w in twin.workers} & {w.address for w in first.workers}
    assert [w.instance for w in twin.workers] == [f"neighbour-{n}" for n in range(4)]
    assert (twin.links, twin.database, twin.provider_url) == ([], None, "")
    assert twin.variables == {"A": "1", "B": "3", "C": None}
    assert len(first.workers) == 32


def test_what_the_neighbour_did_is_counted_from_its_own_history(tmp_path: Path) -> None:
    """Streams that were opened; operations by how they ended."""
    folder = RunFolder.create(tmp_path)
    writer = HistoryWriter(folder.history, "load-0", RunClock())
    for number, outcome in enumerate(("ok", "ok", "fail", "info")):
        identity = writer.invoke("me", worker=0)
        writer.complete(outcome, identity, "me", number=number)
    streams: list[Record] = [{"event": "open"}, {"event": "close"}, {"event": "open"}]
    for fields in streams:
        writer.record("stream", stream="s", sent=0, cause=None, **fields)
    writer.close()
    assert done(folder) == {"streams": 2, "operations": 2, "failed": 2}
