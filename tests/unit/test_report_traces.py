"""Slowest operations of the report: which are chosen, and how their traces are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.history.records import Record
from harness.report import write_reports
from harness.report.series import Operation
from harness.report.slowest import MOST, SlowestFold
from harness.report.waterfall import MOST_ROWS, Waterfall, redis_seconds, rows_of, words_of
from tests.unit.report_run import judgement, traced_run, write_run


def span(name: str, t0: float, t: float, parent: str = "", **attributes: Any) -> Record:
    """Return a span whose id is its name."""
    where = {"worker": 0, "kind": "internal", "trace": "t"}
    return (
        {"t": t, "k": "span", "t0": t0, "span": name, "name": name, "parent": parent}
        | where
        | {"attributes": {key.replace("_", "."): value for key, value in attributes.items()}}
    )


def took(fold: SlowestFold, op: str, number: int, t: float, seconds: float, **more: Any) -> None:
    """Feed one operation."""
    identity = f"{op}-{number}"
    fields = {"trace": f"{number:032x}", **more}
    fold.feed({"t": t, "k": "invoke", "id": identity, "op": op, "worker": 0, **fields})
    fold.feed({"t": t + seconds, "k": "ok", "id": identity, "op": op})


def test_the_slowest_of_each_kind_come_first() -> None:
    """A kind that is quick by nature is shown too; the rest goes to what took longest."""
    fold = SlowestFold()
    took(fold, "me", 0, 1, 99)  # of the warm-up
    fold.feed({"t": 2.0, "k": "phase", "name": "load"})
    for number in range(30):
        took(fold, "stop", number, 3 + number, 0.5 + number / 100)
        took(fold, "me", number, 3 + number, 0.001 + number / 10_000)
    fold.feed({"t": 50.0, "k": "phase", "name": "quiesce"})
    took(fold, "stop", 99, 51, 5)
    chosen = fold.finish(2.0)
    assert len(chosen) == 8 <= MOST
    assert [each.id for each in chosen[:2]] == ["stop-29", "stop-28"]
    assert sum(each.op == "me" for each in chosen) == 4
    assert chosen[0].sent == 30.0


def test_operations_without_a_trace_are_not_chosen() -> None:
    """There is nothing to look into."""
    fold = SlowestFold()
    fold.feed({"t": 1.0, "k": "invoke", "id": "a", "op": "me", "worker": 0})
    fold.feed({"t": 9.0, "k": "ok", "id": "a", "op": "me"})
    assert fold.finish(0.0) == []


def test_rows_are_a_tree_also_when_spans_are_missing() -> None:
    """Children below their parent by their start; who has lost it stands at the top."""
    spans = [
        span("b", 2, 3, "root"),
        span("root", 0, 9, "of-the-load"),
        span("a", 1, 4, "root"),
        span("below", 1.5, 2, "a"),
        span("lost", 5, 6, "never-arrived"),
    ]
    found = [(row.span["name"], row.depth) for row in rows_of(spans)]
    assert found == [("root", 0), ("a", 1), ("below", 2), ("b", 1), ("lost", 0)]


def test_words_are_short_and_redis_is_summed() -> None:
    """A command with its server, a statement by its kind."""
    redis = span("GET", 1, 1.25, db_system_name="redis", server_address="127.9.9.10")
    sql = span("SELECT /data/runtime.db", 1, 2, db_system="sqlite")
    assert [words_of(each) for each in (redis, sql)] == [
        "redis GET → 127.9.9.10",
        "sqlite SELECT",
    ]
    assert redis_seconds([redis, sql]) == 0.25


def test_a_waterfall_ends_with_the_answer_and_has_a_bound() -> None:
    """What began after it, or is too much, is counted instead."""
    operation = Operation("stop-1", "stop", 0, 1.0, 1.5, "ok", {"trace": "t"})
    spans = [span(f"s{n}", 3.1, 3.2) for n in range(MOST_ROWS + 5)] + [span("later", 3.6, 9)]
    waterfall = Waterfall(operation, spans, origin=2.0)
    assert waterfall.left_out == 6
    picture = waterfall.picture()
    assert picture.count("<rect") == MOST_ROWS + 1
    assert "later" not in picture


def test_the_page_shows_the_trace_of_a_slow_operation(tmp_path: Path) -> None:
    """With its time in Redis and its id; what a span is called is never markup."""
    run = traced_run(tmp_path / "run")
    page = write_reports(run, judgement()).read_text(encoding="utf-8")
    section = page.split("<h2>Slowest operations</h2>")[1].split("</section>")[0]
    assert 'id="trace-load-9-1"' in section
    assert "250.0 ms" in section
    assert "in Redis <b>100.0 ms</b>" in section
    assert ("ab" * 16)[1:] + "0" in section
    assert "&lt;b&gt;GET" in section
    assert "<b>GET" not in section


def test_a_run_without_traces_has_no_such_section(tmp_path: Path) -> None:
    """And no room for it."""
    page = write_reports(write_run(tmp_path / "run"), judgement())
    assert "Slowest operations" not in page.read_text(encoding="utf-8")
