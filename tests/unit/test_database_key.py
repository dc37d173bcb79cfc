"""The scenario key `database`: who may have which, what is skipped by name, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.deploy import parts
from harness.deploy.model import Database
from harness.options import RunOptions
from harness.scenario import Scenario
from harness.targets.base import RedisAccess, WorkerSpec
from harness.targets.choose import make_subject
from harness.targets.runtime import RuntimeTarget

FAULT = {"kind": "database-pause", "at": 1, "for_s": 2}


def scenario(**keys: Any) -> Scenario:
    """Return a scenario with these keys."""
    base = {"name": "any", "story": "A scenario of a unit test.", "topology": "standalone"}
    return Scenario.model_validate({**base, **keys})


def test_a_fault_on_the_database_needs_a_server() -> None:
    """Neither a file nor what the target happens to take is enough; the message says what is."""
    assert scenario(database="postgresql", faults=[FAULT]).faults
    for keys in ({}, {"database": "sqlite"}):
        with pytest.raises(ValidationError, match="add `database: postgresql`"):
            scenario(faults=[FAULT], **keys)


def test_without_postgresql_a_scenario_that_asks_for_it_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason names the part and the remedy; who does not ask is not concerned."""
    monkeypatch.setattr(parts, "find_program", lambda _: None)
    reason = parts.missing_part(scenario(database="postgresql"))
    assert "`postgres` was not found" in reason
    assert "apt-get install postgresql" in reason
    assert parts.missing_part(scenario(database="sqlite")) == ""
    assert parts.missing_part(scenario()) == ""


def test_a_target_that_cannot_have_it_is_skipped_by_name() -> None:
    """The stock app knows SQLite alone."""
    subject = make_subject(
        scenario(database="postgresql", target="stock"), RunOptions(seed=1), print
    )
    assert subject.unsuited == "target stock keeps its data in sqlite, not in postgresql"
    there = make_subject(scenario(database="sqlite", target="stock"), RunOptions(seed=1), print)
    assert there.unsuited == ""


@pytest.mark.parametrize("server", [None, Database("127.9.9.4", 5432, Path("/nowhere"))])
def test_workers_are_told_where_it_is(server: Database | None, tmp_path: Path) -> None:
    """The server's URL where there is one, else a file that all of them share."""
    access = RedisAccess("standalone", (("127.9.9.10", 6379),))
    url = "" if server is None else server.url
    spec = WorkerSpec(0, "h", 1, "worker-0", access, "http://p", str(tmp_path), "s", url)
    told = RuntimeTarget().environment(spec)["DATABASE_URL"]
    own = f"sqlite:///{tmp_path.resolve()}/runtime.db"
    assert told == (own if server is None else "postgresql://postgres@127.9.9.4:5432/postgres")
